// Package crowd bounds what strangers hold, in all and of each address.
package crowd

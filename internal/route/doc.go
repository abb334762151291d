// Package route tells who measures a request which route served it.
package route

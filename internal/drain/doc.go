// Package drain lets a client that still sends hear what it is told.
package drain

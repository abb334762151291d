// Package consensus agrees on an ordered log of opaque commands among peers.
package consensus

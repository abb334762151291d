// Package rpc is what one peer may ask another.
//
// Each service is a Go type whose methods gorpc can serve; Client has one typed
// method for each. Errors travel as a field of the reply, because gorpc itself
// keeps only their text. Who may call what is a table (see Allowed). The
// Transport is go-libp2p-gorpc in production and Memory in simulation.
package rpc

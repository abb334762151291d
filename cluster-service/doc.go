// Cluster-service runs a peer of a Holdfast cluster: an embedded IPFS node, the replicated pinset and the HTTP APIs.
package main

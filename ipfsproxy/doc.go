// Package ipfsproxy speaks the RPC API of Kubo so that an unmodified IPFS client pins into the cluster.
//
// Requests that pin, unpin, list pins or add are answered by the cluster, in
// Kubo's own shapes; all others reach the peer's IPFS node untouched.
package ipfsproxy

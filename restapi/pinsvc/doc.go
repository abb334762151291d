// Package pinsvc serves the IPFS Pinning Service API (version 1) from a cluster's pinset.
//
// The id of a pin request is its CID: the pinset has one pin per CID, so two
// requests for one CID are one, the later wins. Listing walks the pinset and
// keeps only the newest results in memory.
package pinsvc

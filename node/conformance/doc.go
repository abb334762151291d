// Package conformance holds the tests that every implementation of the IPFS node passes.
package conformance

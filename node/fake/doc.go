// Package fake is an IPFS node in memory, for simulation: deterministic, without network or disk, and with faults on demand.
package fake

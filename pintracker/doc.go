// Package pintracker makes the local node match what the pinset asks of this peer.
package pintracker

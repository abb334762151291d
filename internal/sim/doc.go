// Package sim drives whole peers on a faulty network and checks what they promise.
//
// A Cluster lives in a testing/synctest bubble: time is simulated, nothing
// touches a socket or the real disk. What survives a peer's crash (its disks)
// is kept apart from the peer. See DESIGN.md for what is simulated how, and for
// the invariants.
package sim

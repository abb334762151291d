// Package cluster holds the use cases: check a request, forward it to the leader if need be, decide, propose.
//
// A request may arrive at any peer. What changes the pinset goes as a whole to
// the leader, which reads the pin and its revision, asks the allocator, and
// proposes a command with the final decision; a concurrent change makes the
// command fail and the decision is made again. What reads is answered from the
// local pinset and, for statuses, by asking the peers that do the work.
package cluster

// Package daemon is the wiring: it builds one peer from its settings and runs it.
//
// Production, the dev cluster, tests and simulation use the same constructor;
// Seams say which edges of a peer are not the real ones.
package daemon

// Package front is the door of a peer's HTTP APIs: listeners, TLS, limits, deadlines and the check of who asks.
package front

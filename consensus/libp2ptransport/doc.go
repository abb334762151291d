// Package libp2ptransport carries the streams of consensus between libp2p hosts.
package libp2ptransport

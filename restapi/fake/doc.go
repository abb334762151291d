// Package fake is a cluster made of funcs, for tests of the HTTP API and its clients.
package fake

// Package api holds the words of the system: the nouns that peers and clients exchange, their JSON, and the errors with their codes.
package api

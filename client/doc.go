// Package client is the Go client of a cluster's HTTP API; its errors are the api errors of the peer that answered.
package client

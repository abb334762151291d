// Package restapi is the cluster's HTTP API: it parses a request, calls one use case and encodes what it answers.
package restapi

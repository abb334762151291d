//go:build e2e

// Package compose starts the deployment of docker-compose.yml on a real Docker engine and does to it what operators do.
//
// It needs an engine that answers, and says loudly that it did nothing where
// there is none. Compose v2 is taken from the engine's command, or built from
// its Go module at the version below into the user's cache folder. Where the
// image golang is missing, a stand-in with this machine's Go is imported, with
// the module cache as its proxy: the build needs no registry then.
package compose

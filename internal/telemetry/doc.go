// Package telemetry shows what a peer does as metrics of Prometheus.
package telemetry

// Package monitor knows which peers are alive and what they last reported.
package monitor

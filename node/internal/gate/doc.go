// Package gate keeps writers and garbage collection apart.
package gate

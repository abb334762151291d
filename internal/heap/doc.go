// Package heap paces the garbage collector by bytes.
package heap

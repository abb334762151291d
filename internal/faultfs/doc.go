// Package faultfs is a file system whose reads go wrong as those of a real disk do, for tests and simulation.
package faultfs

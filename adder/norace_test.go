//go:build !race

package adder

const raced = false

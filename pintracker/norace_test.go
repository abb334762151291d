//go:build !race

package pintracker

const raced = false

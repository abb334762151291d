//go:build race

package sim

// raced says that the race detector runs, which makes everything ten times as
// slow. What finds races is that code runs at the same time, not how often.
const raced = true

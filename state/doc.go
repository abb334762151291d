// Package state is the pinset as a deterministic value: commands and their log index go in, results and the kept pins come out.
package state

// Package backup writes the pinset to files of one pin a line, reads such files back, and keeps copies by the clock.
package backup

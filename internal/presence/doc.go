// Package presence tells from memory of most keys that a store does not have them.
package presence

// Package lint holds the rules of this tree that no compiler checks; its tests apply them.
package lint

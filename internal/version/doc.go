// Package version says which release and which commit a binary was built from.
package version

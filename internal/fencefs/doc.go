// Package fencefs keeps Pebble calm when the disk under a database fails, so that its owner can end in order.
package fencefs

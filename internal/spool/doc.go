// Package spool keeps what is written for readers that do not read yet, within
// one budget of bytes.
package spool

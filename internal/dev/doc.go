// Package dev runs several complete peers on the loopback of one machine.
package dev

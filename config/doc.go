// Package config reads the settings of a peer from its file, the environment and flags.
package config

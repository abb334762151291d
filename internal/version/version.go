package version

import "runtime/debug"

// Version is the release that this tree becomes.
const Version = "0.1.0"

// Unknown is the commit of a binary that nobody stamped, such as one made by
// "go run".
const Unknown = "unknown"

// stamp is set by the linker: -ldflags "-X holdfast/internal/version.stamp=<commit>".
var stamp string

// Commit returns the commit that the binary was built from: the linker's stamp,
// else what the Go tool recorded, else Unknown. A commit with uncommitted
// changes on top ends in "-dirty".
func Commit() string {
	info, _ := debug.ReadBuildInfo()
	return commitOf(stamp, info)
}

// String returns the version with its commit, as the binaries print it.
func String() string { return Version + " (" + Commit() + ")" }

func commitOf(stamp string, info *debug.BuildInfo) string {
	if stamp != "" {
		return stamp
	}
	if info == nil {
		return Unknown
	}
	commit, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	if commit == "" {
		return Unknown
	}
	return commit[:min(len(commit), 12)] + dirty
}

package version

import (
	"runtime/debug"
	"testing"
)

func TestCommitOf(t *testing.T) {
	vcs := func(revision, modified string) *debug.BuildInfo {
		return &debug.BuildInfo{Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}}
	}
	tests := []struct {
		name  string
		stamp string
		info  *debug.BuildInfo
		want  string
	}{
		{"linker's stamp wins", "abc", vcs("0123456789abcdef", "false"), "abc"},
		{"recorded by the Go tool", "", vcs("0123456789abcdef", "false"), "0123456789ab"},
		{"with changes on top", "", vcs("0123456789abcdef", "true"), "0123456789ab-dirty"},
		{"no repository", "", &debug.BuildInfo{}, Unknown},
		{"no build information", "", nil, Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := commitOf(tt.stamp, tt.info); got != tt.want {
				t.Errorf("commitOf = %q, want %q", got, tt.want)
			}
		})
	}
}

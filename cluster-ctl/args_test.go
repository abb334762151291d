package main

import (
	"strings"
	"testing"
)

func TestArrange(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "ctl", "ctl"},
		{"already in order", "ctl --enc json pin ls", "ctl --enc json pin ls"},
		{"global flag at the end", "ctl status CID --enc json", "ctl --enc json status -- CID"},
		{"value after =", "ctl status CID --enc=json", "ctl --enc=json status -- CID"},
		{"command's flag at the end", "ctl pin add CID --name x --wait", "ctl pin add --name x --wait -- CID"},
		{"between group and command", "ctl pin --enc json ls", "ctl --enc json pin ls"},
		{"the command's -s is not the program's", "ctl add file -s size-1024", "ctl add -s size-1024 -- file"},
		{"the program's -s before the command", "ctl -s id", "ctl -s id"},
		{"standard input", "ctl add - -w", "ctl add -w -- -"},
		{"a file named as a command", "ctl add pin", "ctl add -- pin"},
		{"after --", "ctl add -q -- -odd --enc", "ctl add -q -- -odd --enc"},
		{"several short flags", "ctl add dir -rw", "ctl add -rw -- dir"},
		{"unknown flag stays with the command", "ctl id --bogus", "ctl id --bogus"},
		{"unknown command", "ctl bogus x", "ctl bogus x"},
		{"value is missing", "ctl id --enc", "ctl --enc id"},
		{"completion is left alone", "ctl pin add --na --generate-bash-completion", "ctl pin add --na --generate-bash-completion"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app := (&program{}).app()
			if got := strings.Join(arrange(app, strings.Fields(tt.in)), " "); got != tt.want {
				t.Errorf("arrange(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

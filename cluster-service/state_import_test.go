package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/internal/daemon"
)

// storedPins remembers what was stored; nothing else of it is called.
type storedPins struct {
	daemon.Pinset
	names []string
}

func (s *storedPins) Import(_ context.Context, pins []api.Pin) (daemon.ImportAnswer, error) {
	for _, pin := range pins {
		s.names = append(s.names, pin.Name)
	}
	return daemon.ImportAnswer{Changed: uint64(len(pins))}, nil
}

// A file that is read otherwise the second time, be it by one letter of a name,
// is stored no further than it is what was checked.
func TestImportStoresWhatItChecked(t *testing.T) {
	const line = `{"cid":"bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy","name":"first","type":"pin","allocations":[],"max_depth":-1,"replication_factor_min":-1,"replication_factor_max":-1}`
	path := filepath.Join(t.TempDir(), "pins")
	if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ second, problem string }{
		{line, ""},
		{strings.Replace(line, "first", "girst", 1), "line 1 is another"},
		{strings.Replace(line, "52zy", "52za", 1), "line 1 is another"},
	} {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		pinset := &storedPins{}
		i := importer{program: program{err: io.Discard}, in: file, pinset: pinset, named: map[[16]byte]namedPin{}}
		if err := i.check(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(test.second+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		err = i.store(t.Context())
		if test.problem == "" {
			if err != nil || len(pinset.names) != 1 {
				t.Errorf("the same file: %v, %v", pinset.names, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), test.problem) || len(pinset.names) > 0 {
			t.Errorf("stored %v, %v; want %s", pinset.names, err, test.problem)
		}
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

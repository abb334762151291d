package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// runWith runs a command line and returns what it printed.
func runWith(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	p := program{in: strings.NewReader(""), out: &out, err: &out, environment: func(string) (string, bool) { return "", false }}
	err := p.app().RunContext(t.Context(), append([]string{"cluster-service"}, args...))
	return out.String(), err
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runWith(t, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func lineOf(t *testing.T, i int, name string) string {
	t.Helper()
	sum, err := multihash.Sum(fmt.Append(nil, i), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"cid":%q,"name":%q}`, cid.NewCidV1(cid.Raw, sum), name)
}

// One pin that cannot be does not keep the others of a file from being imported.
func TestImportSkipsWhatCannotBe(t *testing.T) {
	base := t.TempDir()
	dir, file, aside := filepath.Join(base, "peer"), filepath.Join(base, "pins.ndjson"), filepath.Join(base, "aside.ndjson")
	bad := lineOf(t, 2, strings.Repeat("x", api.MaxNameBytes+1))
	writeFile(t, file, lineOf(t, 1, "first")+"\n"+bad+"\n"+lineOf(t, 3, "third")+"\n")
	mustRun(t, "init", "--dir", dir, "--private")

	_, err := runWith(t, "state", "import", "--dir", dir, file)
	for _, text := range []string{"nothing was changed", "line 2: ", "1,024", "--skip-bad FILE"} {
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "1024", "1,024"), text) {
			t.Errorf("without the flag: no %q in %v", text, err)
		}
	}
	for _, wrong := range [][]string{{"--skip-bad", file, file}, {"--replace", "--yes", "--skip-bad", aside, file}} {
		if out, err := runWith(t, append([]string{"state", "import", "--dir", dir}, wrong...)...); err == nil {
			t.Errorf("%v: %s", wrong, out)
		}
	}
	for range 2 { // it may be repeated
		out := mustRun(t, "state", "import", "--dir", dir, "--skip-bad", aside, file)
		if !strings.Contains(out, "1 entries are left out") || !strings.Contains(out, "imported 2 of 2 pins") {
			t.Errorf("import said: %s", out)
		}
		if got, err := os.ReadFile(aside); err != nil || string(got) != bad+"\n" {
			t.Errorf("aside lies %.100q, %v", got, err)
		}
	}
}

// An export says where it ends, so a copy that was cut off is not imported.
func TestCutExportIsNotImported(t *testing.T) {
	base := t.TempDir()
	dir, file, export := filepath.Join(base, "peer"), filepath.Join(base, "pins.ndjson"), filepath.Join(base, "export.ndjson")
	writeFile(t, file, lineOf(t, 1, "first")+"\n"+lineOf(t, 2, "second")+"\n"+lineOf(t, 3, "third")+"\n")
	mustRun(t, "init", "--dir", dir, "--private")
	mustRun(t, "state", "import", "--dir", dir, file)
	mustRun(t, "state", "export", "--dir", dir, "--out", export)
	mustRun(t, "state", "import", "--dir", dir, export)

	whole, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	cut := whole[:bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1] // at the end of a line
	writeFile(t, export, string(cut))
	if out, err := runWith(t, "state", "import", "--dir", dir, "--replace", "--yes", export); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("a cut export: %v\n%s", err, out)
	}
	if out := mustRun(t, "state", "import", "--dir", dir, "--part", export); !strings.Contains(out, "imported 2 of 2") {
		t.Errorf("a part of an export: %s", out)
	}
}

package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// badCode has one finding each for go vet, staticcheck and unused code, and
// two that must not be reported: excused, and used by a test only.
const badCode = `package bad

import (
	"regexp"
	"sync"
)

func Copy(m sync.Mutex) {}

func Compile() *regexp.Regexp { return regexp.MustCompile("(") }

func nobody() {}

//lint:ignore U1000 an example of an excuse
func excused() {}

func tested() {}
`

const badTest = `package bad

import "testing"

func TestIt(*testing.T) { tested() }
`

func TestAnalyzeCatchesBadSamples(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module bad\n\ngo 1.26\n", "bad.go": badCode, "bad_test.go": badTest} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	findings, err := Analyze(t.Context(), dir, "./...")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bad.go:10:", "[SA1000]", "bad.go:12:", "[U1000]", "bad.go:8:", "[copylocks]"}
	if len(findings) != len(want)/2 {
		t.Fatalf("found %v, want %d findings", findings, len(want)/2)
	}
	for i, f := range findings {
		if text := f.String(); !strings.HasPrefix(text, want[2*i]) || !strings.HasSuffix(text, want[2*i+1]) {
			t.Errorf("found %s, want %s … %s", text, want[2*i], want[2*i+1])
		}
	}
}

func TestAnalyzeRefusesBrokenCode(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module bad\n\ngo 1.26\n", "bad.go": "package bad\n\nvar x int = \"\"\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Analyze(t.Context(), dir, "./..."); err == nil {
		t.Error("code that does not compile was analyzed")
	}
}

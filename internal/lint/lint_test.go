package lint

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const root = "../.."

func TestTree(t *testing.T) {
	tree, err := Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range Rules {
		t.Run(rule.Name, func(t *testing.T) {
			for _, f := range rule.Check(tree) {
				t.Errorf("%s", f)
			}
		})
	}
}

// TestLightPackages looks at dependencies of dependencies, which the rules
// about imports do not see.
func TestLightPackages(t *testing.T) {
	for _, pkg := range light {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel()
			list := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg)
			list.Dir, list.Stderr = root, io.Discard
			out, err := list.Output()
			if err != nil {
				t.Fatalf("go list -deps %s: %v", pkg, err)
			}
			for dep := range strings.Lines(string(out)) {
				for _, h := range heavy {
					if strings.HasPrefix(strings.TrimSpace(dep)+"/", h) {
						t.Errorf("%s depends on %s", pkg, strings.TrimSpace(dep))
					}
				}
			}
		})
	}
}

// TestAnalyzers runs go vet's analyzers and staticcheck's.
func TestAnalyzers(t *testing.T) {
	if testing.Short() {
		t.Skip("it type-checks every package")
	}
	findings, err := Analyze(t.Context(), root, "./...")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Errorf("%s", f)
	}
}

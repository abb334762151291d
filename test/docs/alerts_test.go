package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestAlertsAreDocumented compares the names of alerts in the code with the
// table that says what to do.
func TestAlertsAreDocumented(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../api/alert.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var coded []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Alert") || len(spec.Values) == 0 {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			coded = append(coded, name)
		}
		return true
	})
	if len(coded) < 3 {
		t.Fatalf("only %v found in the code", coded)
	}
	page, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "| alert | means | what to do |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if !found {
		t.Fatal("docs/deployment.md has no table of alerts")
	}
	var written []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(table, -1) {
		written = append(written, row[1])
	}
	slices.Sort(coded)
	slices.Sort(written)
	if !slices.Equal(coded, written) {
		t.Errorf("alerts in api/alert.go: %v\nin docs/deployment.md:  %v", coded, written)
	}
}

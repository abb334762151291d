package lint

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/packages"
	"honnef.co/go/tools/analysis/lint"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/unused"
)

// Analyze runs the analyzers of go vet and staticcheck over packages of the
// module in dir, their tests included, and returns what they found.
//
// It is quick because only our own packages are analyzed: of all others it
// needs the compiled form, which building them leaves in the cache. The price
// is that nothing is known about how theirs behave (which are deprecated, say).
func Analyze(ctx context.Context, dir string, patterns ...string) ([]Finding, error) {
	pkgs, err := packages.Load(&packages.Config{Context: ctx, Mode: packages.LoadSyntax | packages.NeedModule, Dir: dir,
		Tests: true, BuildFlags: []string{"-tags=e2e"}}, patterns...)
	if err != nil {
		return nil, fmt.Errorf("load packages: %w", err)
	}
	var broken []error
	for _, p := range pkgs {
		for _, e := range p.Errors {
			broken = append(broken, e)
		}
		for path, dep := range p.Imports {
			if len(dep.Syntax) == 0 {
				delete(p.Imports, path) // there is nothing to analyze
			}
		}
	}
	if len(broken) > 0 {
		return nil, fmt.Errorf("compile packages: %w", errors.Join(broken...))
	}
	graph, err := checker.Analyze(analyzers(), pkgs, nil)
	if err != nil {
		return nil, fmt.Errorf("analyze: %w", err)
	}
	c := collector{dir: dir, seen: map[string]bool{}, used: map[token.Position]bool{}, ignored: map[string]bool{}}
	for _, p := range pkgs {
		c.readDirectives(p)
	}
	for action := range graph.All() {
		if action.Err != nil {
			return nil, fmt.Errorf("%s: %w", action, action.Err)
		}
		if action.IsRoot {
			c.collect(action)
		}
	}
	c.collectUnused()
	slices.SortFunc(c.findings, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	return c.findings, nil
}

func analyzers() []*analysis.Analyzer {
	out := slices.Clone(vet)
	for _, set := range [][]*lint.Analyzer{staticcheck.Analyzers, simple.Analyzers} {
		for _, a := range set {
			if !a.Doc.Compile().NonDefault {
				out = append(out, a.Analyzer)
			}
		}
	}
	return append(out, unused.Analyzer.Analyzer)
}

// collector gathers diagnostics. A file with tests is seen twice, alone and
// with them: what is found twice counts once, and what only the tests use is
// used.
type collector struct {
	dir      string
	findings []Finding
	seen     map[string]bool
	used     map[token.Position]bool
	unused   []unused.Object
	ignored  map[string]bool // "path:line rule"
}

// readDirectives finds comments of the form "//lint:ignore RULE reason", which
// excuse the line that they are on, and the next.
func (c *collector) readDirectives(p *packages.Package) {
	for _, f := range p.Syntax {
		for _, group := range f.Comments {
			for _, comment := range group.List {
				fields := strings.Fields(comment.Text)
				if len(fields) < 3 || fields[0] != "//lint:ignore" {
					continue
				}
				at := p.Fset.Position(comment.Pos())
				for _, rule := range strings.Split(fields[1], ",") {
					c.ignored[fmt.Sprintf("%s:%d %s", at.Filename, at.Line, rule)] = true
					c.ignored[fmt.Sprintf("%s:%d %s", at.Filename, at.Line+1, rule)] = true
				}
			}
		}
	}
}

func (c *collector) collect(action *checker.Action) {
	if result, ok := action.Result.(unused.Result); ok {
		for _, o := range result.Used {
			c.used[o.Position] = true
		}
		c.unused = append(c.unused, result.Unused...)
		return
	}
	generated := map[string]bool{}
	for _, f := range action.Package.Syntax {
		if ast.IsGenerated(f) {
			generated[action.Package.Fset.Position(f.Pos()).Filename] = true
		}
	}
	for _, d := range action.Diagnostics {
		at := action.Package.Fset.Position(d.Pos)
		if !generated[at.Filename] {
			c.add(action.Analyzer.Name, at, d.Message)
		}
	}
}

func (c *collector) collectUnused() {
	for _, o := range c.unused {
		if !c.used[o.Position] {
			c.add("U1000", o.DisplayPosition, fmt.Sprintf("%s %s is unused", o.Kind, o.Name))
		}
	}
}

func (c *collector) add(rule string, at token.Position, text string) {
	if c.ignored[fmt.Sprintf("%s:%d %s", at.Filename, at.Line, rule)] {
		return
	}
	if abs, err := filepath.Abs(c.dir); err == nil {
		if rel, err := filepath.Rel(abs, at.Filename); err == nil {
			at.Filename = filepath.ToSlash(rel)
		}
	}
	f := Finding{Rule: rule, At: at.String(), Text: text}
	if !c.seen[f.String()] {
		c.seen[f.String()] = true
		c.findings = append(c.findings, f)
	}
}

package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// checkFormat wants every file as gofmt writes it.
func checkFormat(t *Tree, report func(at, text string)) {
	for _, f := range t.files {
		formatted, err := format.Source(f.src)
		if err != nil {
			report(f.path, err.Error())
		} else if !bytes.Equal(formatted, f.src) {
			report(f.path, "run gofmt -w on it")
		}
	}
}

// checkPackageDocs wants a doc.go in every package whose package comment is a
// sentence about that package.
func checkPackageDocs(t *Tree, report func(at, text string)) {
	for pkg, files := range t.packages() {
		if !slices.ContainsFunc(files, func(f *file) bool { return !f.test && !f.generated }) {
			continue
		}
		i := slices.IndexFunc(files, func(f *file) bool { return path.Base(f.path) == "doc.go" })
		if i < 0 {
			report(pkg, "there is no doc.go that says in one sentence what the package does")
			continue
		}
		doc := files[i].ast
		begin := "Package " + doc.Name.Name + " "
		if doc.Name.Name == "main" {
			// As gofmt's own says "Gofmt formats Go programs."
			program := path.Base(pkg)
			begin = strings.ToUpper(program[:1]) + program[1:] + " "
		}
		switch text := strings.TrimSpace(doc.Doc.Text()); {
		case !strings.HasPrefix(text, begin):
			report(files[i].path, fmt.Sprintf("the package comment does not begin with %q", begin))
		case !strings.HasSuffix(text, "."):
			report(files[i].path, "the package comment does not end in a full stop")
		}
	}
}

// The marks are put together here so that this file does not hold them.
var marks = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)

// checkMarks wants no notes of unfinished work: they belong in an issue.
func checkMarks(t *Tree, report func(at, text string)) {
	for _, f := range t.files {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if m := marks.FindString(c.Text); m != "" {
					report(t.at(c.Pos()), fmt.Sprintf("a comment says %s; do it, or open an issue", m))
				}
			}
		}
	}
}

// checkPureCalls keeps the clock out of pure packages.
func checkPureCalls(t *Tree, report func(at, text string)) {
	for _, f := range t.files {
		if !f.test && within(f.pkg, pure...) {
			f.uses(impureCalls, func(sel *ast.SelectorExpr, name string) {
				report(t.at(sel.Pos()), fmt.Sprintf("%s in %s, which gets the time as an argument", name, f.pkg))
			})
		}
	}
}

// checkSleeps wants no sleeping in tests, but in packages whose tests simulate
// time (a helper file of theirs need not import synctest itself).
func checkSleeps(t *Tree, report func(at, text string)) {
	simulated := map[string]bool{}
	for _, f := range t.files {
		if f.test && f.importsPackage("testing/synctest") {
			simulated[f.pkg] = true
		}
	}
	for _, f := range t.files {
		if f.test && !simulated[f.pkg] {
			f.uses([]string{"time.Sleep"}, func(sel *ast.SelectorExpr, _ string) {
				report(t.at(sel.Pos()), "time.Sleep in a test; wait for an event, or simulate time with testing/synctest")
			})
		}
	}
}

// uses calls do for every mention of a name such as "time.Now".
func (f *file) uses(names []string, do func(sel *ast.SelectorExpr, name string)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, name := range names {
			pkg, member, _ := cutLast(name, ".")
			if sel.Sel.Name == member && x.Name == f.localName(pkg) {
				do(sel, name)
			}
		}
		return true
	})
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// checkContextFields wants contexts passed, not kept.
func checkContextFields(t *Tree, report func(at, text string)) {
	for _, f := range t.files {
		ctx := f.localName("context")
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range s.Fields.List {
				if isSelector(field.Type, ctx, "Context") {
					report(t.at(field.Pos()), "a struct holds a context.Context; pass it to the call that needs it")
				}
			}
			return true
		})
	}
}

func isSelector(e ast.Expr, pkg string, names ...string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && pkg != "" && x.Name == pkg && slices.Contains(names, sel.Sel.Name)
}

// loggers are packages of which no package variable may be made, and whose
// default logger nobody may use.
var loggers = []string{"log/slog", "log", "github.com/ipfs/go-log/v2", "go.uber.org/zap"}

// checkLoggers wants loggers handed in.
func checkLoggers(t *Tree, report func(at, text string)) {
	defaults := []string{"log/slog.Debug", "log/slog.Info", "log/slog.Warn", "log/slog.Error", "log/slog.Default", "log/slog.SetDefault",
		"log.Print", "log.Printf", "log.Println", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf"}
	for _, f := range t.files {
		if f.test {
			continue
		}
		f.uses(defaults, func(sel *ast.SelectorExpr, name string) {
			report(t.at(sel.Pos()), name+" writes to a global logger; use the *slog.Logger that was handed in")
		})
		for _, decl := range f.ast.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				if f.mentionsLogger(spec) {
					report(t.at(spec.Pos()), "a package variable holds a logger; hand it in")
				}
			}
		}
	}
}

func (f *file) mentionsLogger(spec ast.Spec) bool {
	found := false
	ast.Inspect(spec, func(n ast.Node) bool {
		if _, inside := n.(*ast.FuncLit); inside {
			return false
		}
		if e, ok := n.(ast.Expr); ok {
			for _, l := range loggers {
				found = found || isSelector(e, f.localName(l), "Logger", "New", "Default", "With")
			}
		}
		return !found
	})
	return found
}

// checkErrorTexts wants errors told apart by what they are, not by what they
// say.
func checkErrorTexts(t *Tree, report func(at, text string)) {
	for _, f := range t.files {
		if f.test {
			continue
		}
		compares := []string{"strings.Contains", "strings.HasPrefix", "strings.HasSuffix", "strings.EqualFold"}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			bad := false
			switch n := n.(type) {
			case *ast.BinaryExpr:
				bad = (n.Op == token.EQL || n.Op == token.NEQ) && (isErrorText(n.X) && isText(n.Y) || isErrorText(n.Y) && isText(n.X))
			case *ast.CallExpr:
				for _, c := range compares {
					pkg, name, _ := cutLast(c, ".")
					bad = bad || isSelector(n.Fun, f.localName(pkg), name) && len(n.Args) > 0 && isErrorText(n.Args[0])
				}
			}
			if bad {
				report(t.at(n.Pos()), "the text of an error is compared; use errors.Is, errors.As or api.CodeOf")
			}
			return true
		})
	}
}

func isErrorText(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok || len(call.Args) != 0 {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Error"
}

// isText says whether an expression is a text that the code knows, or that of
// another error. An empty one asks whether there is any text.
func isText(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Value != `""`
	case *ast.Ident:
		return true
	}
	return isErrorText(e)
}

// checkMains keeps programs' mains short: what they do belongs in packages
// that tests can reach.
func checkMains(t *Tree, report func(at, text string)) {
	for _, f := range t.files {
		if f.ast.Name.Name != "main" || f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if ok && fn.Recv == nil && fn.Name.Name == "main" && lines(f.src) > maxMainLines {
				report(f.path, fmt.Sprintf("the file of main has %d lines; at most %d are allowed", lines(f.src), maxMainLines))
			}
		}
	}
}

package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Tree is the source of the module, parsed.
type Tree struct {
	fsys  fs.FS
	fset  *token.FileSet
	files []*file // Go files, in the order of their paths
	docs  []string
}

type file struct {
	path      string // below the root
	pkg       string // folder below the root; "." is the root
	src       []byte
	ast       *ast.File
	test      bool // name ends in _test.go
	generated bool
}

// A Finding is one breach of one rule.
type Finding struct {
	Rule string
	At   string // path, or path:line:column
	Text string // what is wrong, and why that matters
}

// String returns the finding as compilers write theirs.
func (f Finding) String() string { return fmt.Sprintf("%s: %s [%s]", f.At, f.Text, f.Rule) }

// Load reads and parses every Go file and finds every Markdown file. Folders
// that the Go tool ignores are ignored.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{fsys: fsys, fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || name == "bin" || name == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		switch path.Ext(base) {
		case ".md":
			t.docs = append(t.docs, name)
		case ".go":
			return t.parse(name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load the tree: %w", err)
	}
	return t, nil
}

func (t *Tree) parse(name string) error {
	src, err := fs.ReadFile(t.fsys, name)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.files = append(t.files, &file{path: name, pkg: path.Dir(name), src: src, ast: parsed,
		test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(parsed)})
	return nil
}

// packages returns the folders that hold Go files, each with its files.
func (t *Tree) packages() map[string][]*file {
	out := map[string][]*file{}
	for _, f := range t.files {
		out[f.pkg] = append(out[f.pkg], f)
	}
	return out
}

func (t *Tree) at(pos token.Pos) string { return t.fset.Position(pos).String() }

// imports calls do for every import of a file.
func (f *file) imports(do func(path string, spec *ast.ImportSpec)) {
	for _, spec := range f.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			do(p, spec)
		}
	}
}

func (f *file) importsPackage(want string) bool {
	found := false
	f.imports(func(p string, _ *ast.ImportSpec) { found = found || p == want })
	return found
}

// localName is what a file calls an imported package; "" when it does not
// import it.
func (f *file) localName(importPath string) string {
	name := ""
	f.imports(func(p string, spec *ast.ImportSpec) {
		if p != importPath {
			return
		}
		name = path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
	})
	return name
}

// within says whether a package is one of those, or beneath one.
func within(pkg string, of ...string) bool {
	return slices.ContainsFunc(of, func(o string) bool { return pkg == o || strings.HasPrefix(pkg, o+"/") })
}

func lines(src []byte) int { return bytes.Count(src, []byte("\n")) }

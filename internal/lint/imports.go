package lint

import (
	"fmt"
	"go/ast"
	"strings"
)

// layerOf finds the layer of a package: its own, or that of a folder above.
func layerOf(pkg string) (layer, bool) {
	for at := pkg; ; {
		for _, l := range layers {
			if l.pkg == at {
				return l, at != "." || pkg == "."
			}
		}
		i := strings.LastIndex(at, "/")
		if i < 0 {
			return layer{}, false
		}
		at = at[:i]
	}
}

// checkLayers keeps imports within the tree to the layers.
func checkLayers(t *Tree, report func(at, text string)) {
	for pkg, files := range t.packages() {
		own, known := layerOf(pkg)
		if !known {
			report(pkg, "this package has no layer; give it one in internal/lint/tables.go")
			continue
		}
		for _, f := range files {
			if f.test {
				continue
			}
			f.imports(func(p string, spec *ast.ImportSpec) {
				target, ours := ourPackage(p)
				if !ours {
					return
				}
				of, _ := layerOf(target)
				switch {
				case of.pkg == own.pkg && !own.main:
				case of.main:
					report(t.at(spec.Pos()), fmt.Sprintf("%s is a program, which nobody imports", target))
				case !within(target, own.may...):
					report(t.at(spec.Pos()), fmt.Sprintf("%s may not import %s: %s", pkg, target, own.why))
				}
			})
		}
	}
}

func ourPackage(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// checkConfinements keeps some packages of others to few of ours.
func checkConfinements(t *Tree, report func(at, text string)) {
	for _, f := range t.files {
		if f.test {
			continue
		}
		f.imports(func(p string, spec *ast.ImportSpec) {
			for _, c := range confinements {
				if p != c.path && (c.exact || !strings.HasPrefix(p, c.path+"/")) {
					continue
				}
				if !within(f.pkg, c.to...) {
					report(t.at(spec.Pos()), fmt.Sprintf("%s may not import %s (only %s may): %s", f.pkg, p, strings.Join(c.to, ", "), c.why))
				}
			}
		})
	}
}

// checkPureImports keeps the world out of pure packages.
func checkPureImports(t *Tree, report func(at, text string)) {
	for _, f := range t.files {
		if f.test || !within(f.pkg, pure...) {
			continue
		}
		f.imports(func(p string, spec *ast.ImportSpec) {
			if within(p, impureImports...) {
				report(t.at(spec.Pos()), fmt.Sprintf("%s is pure and may not import %s", f.pkg, p))
			}
		})
	}
}

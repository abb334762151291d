package lint

import (
	"errors"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const invariantsPage = "docs/invariants.md"

var invariantName = regexp.MustCompile(`\bINV-[A-Z]+\b`)

// checkInvariants wants every invariant that the code speaks of in a row of its
// page, and each of these named by the code that keeps it and by a test that
// checks it.
func checkInvariants(t *Tree, report func(at, text string)) {
	kept, checked := map[string]string{}, map[string]string{} // the first file that names it
	for _, f := range t.files {
		if within(f.pkg, "internal/lint") {
			continue // its samples are no invariants
		}
		in := kept
		if f.test || within(f.pkg, "internal/sim", "test") {
			in = checked
		}
		for _, name := range invariantName.FindAllString(string(f.src), -1) {
			if _, known := in[name]; !known {
				in[name] = f.path
			}
		}
	}
	page, err := fs.ReadFile(t.fsys, invariantsPage)
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && len(kept)+len(checked) == 0) {
		report(invariantsPage, err.Error())
		return
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		name := invariantName.FindString(line)
		if name == "" || !strings.HasPrefix(line, "| "+name+" |") {
			continue
		}
		listed[name] = true
		if kept[name] == "" {
			report(invariantsPage, name+" is named by no code that keeps it")
		}
		if checked[name] == "" {
			report(invariantsPage, name+" is checked by no test")
		}
	}
	for _, names := range []map[string]string{kept, checked} {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if !listed[name] {
				report(names[name], name+" has no row in "+invariantsPage)
				listed[name] = true
			}
		}
	}
}

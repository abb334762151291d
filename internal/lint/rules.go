package lint

import "slices"

// A Rule is one thing that is checked about the tree.
type Rule struct {
	Name  string
	check func(t *Tree, report func(at, text string))
}

// Rules are all of them, in the order in which they are reported.
var Rules = []Rule{
	{"layers", checkLayers},
	{"confinement", checkConfinements},
	{"pure-imports", checkPureImports},
	{"pure-calls", checkPureCalls},
	{"gofmt", checkFormat},
	{"package-doc", checkPackageDocs},
	{"unfinished", checkMarks},
	{"context-field", checkContextFields},
	{"logger", checkLoggers},
	{"error-text", checkErrorTexts},
	{"sleep", checkSleeps},
	{"main-size", checkMains},
	{"dependencies", checkDependencies},
	{"links", checkLinks},
	{"invariants", checkInvariants},
}

// Check applies one rule.
func (r Rule) Check(t *Tree) []Finding {
	var out []Finding
	r.check(t, func(at, text string) { out = append(out, Finding{Rule: r.Name, At: at, Text: text}) })
	slices.SortFunc(out, func(a, b Finding) int {
		switch {
		case a.String() < b.String():
			return -1
		case a.String() > b.String():
			return 1
		}
		return 0
	})
	return out
}

package lint

import (
	"strings"
	"testing"
	"testing/fstest"
)

const (
	goodMod  = "module holdfast\n\nrequire (\n\texample.com/used v1.0.0\n\texample.com/deep v1.0.0 // indirect\n)\n"
	goodDeps = "# Dependencies\n\n| `example.com/used` | it is used |\n"
)

// samples has for each rule what it must catch; want is part of the finding.
var samples = []struct {
	rule, name string
	files      map[string]string
	want       string // "": nothing must be found
}{
	{"layers", "engine imports engine", map[string]string{"monitor/a.go": "package monitor\n\nimport _ \"holdfast/node\"\n"}, "monitor may not import node"},
	{"layers", "noun imports state", map[string]string{"api/a.go": "package api\n\nimport _ \"holdfast/state\"\n"}, "api may not import state"},
	{"layers", "sub-package inherits", map[string]string{"restapi/sub/a.go": "package sub\n\nimport _ \"holdfast/cluster\"\n"}, "restapi/sub may not import cluster"},
	{"layers", "program imported", map[string]string{"internal/daemon/a.go": "package daemon\n\nimport _ \"holdfast/cluster-ctl\"\n"}, "is a program"},
	{"layers", "unknown package", map[string]string{"misc/a.go": "package misc\n"}, "has no layer"},
	{"layers", "unknown internal package", map[string]string{"internal/misc/a.go": "package misc\n"}, "has no layer"},
	{"layers", "allowed", map[string]string{
		"state/a.go":          "package state\n\nimport (\n\t_ \"holdfast/api\"\n\t_ \"holdfast/state/statepb\"\n)\n",
		"internal/sim/a.go":   "package sim\n\nimport _ \"holdfast/internal/daemon\"\n",
		"client/a_test.go":    "package client\n\nimport _ \"holdfast/restapi\"\n",
		"state/statepb/a.go":  "package statepb\n",
		"cluster-ctl/main.go": "package main\n\nimport _ \"holdfast/client\"\n"}, ""},
	{"confinement", "kubo outside", map[string]string{"cluster/a.go": "package cluster\n\nimport _ \"github.com/ipfs/kubo/core\"\n"}, "cluster may not import github.com/ipfs/kubo/core"},
	{"confinement", "libp2p host outside", map[string]string{"monitor/a.go": "package monitor\n\nimport _ \"github.com/libp2p/go-libp2p\"\n"}, "the wiring makes the hosts"},
	{"confinement", "allowed", map[string]string{
		"node/a.go":         "package node\n\nimport _ \"github.com/ipfs/kubo/core\"\n",
		"monitor/a.go":      "package monitor\n\nimport _ \"github.com/libp2p/go-libp2p/core/peer\"\n",
		"cluster/a_test.go": "package cluster\n\nimport _ \"github.com/ipfs/kubo/core\"\n"}, ""},
	{"pure-imports", "os", map[string]string{"state/a.go": "package state\n\nimport _ \"os\"\n"}, "may not import os"},
	{"pure-imports", "beneath net", map[string]string{"allocator/a.go": "package allocator\n\nimport _ \"net/http\"\n"}, "may not import net/http"},
	{"pure-imports", "elsewhere", map[string]string{"client/a.go": "package client\n\nimport _ \"net/http\"\n"}, ""},
	{"pure-calls", "clock", map[string]string{"state/a.go": "package state\n\nimport \"time\"\n\nvar now = time.Now()\n"}, "time.Now in state"},
	{"pure-calls", "clock under another name", map[string]string{"allocator/a.go": "package allocator\n\nimport t \"time\"\n\nvar now = t.Now\n"}, "time.Now in allocator"},
	{"pure-calls", "no clock", map[string]string{"state/a.go": "package state\n\nimport \"time\"\n\nvar zero time.Time\n"}, ""},
	{"gofmt", "spaces", map[string]string{"api/a.go": "package api\n\nvar  x int\n"}, "run gofmt"},
	{"gofmt", "good", map[string]string{"api/a.go": "package api\n\nvar x int\n"}, ""},
	{"package-doc", "no doc.go", map[string]string{"api/a.go": "// Package api is.\npackage api\n"}, "there is no doc.go"},
	{"package-doc", "no comment", map[string]string{"api/doc.go": "package api\n"}, "does not begin with"},
	{"package-doc", "no sentence", map[string]string{"api/doc.go": "// Package api has words\npackage api\n"}, "full stop"},
	{"package-doc", "good", map[string]string{"api/doc.go": "// Package api has words.\npackage api\n", "cluster-ctl/doc.go": "// Cluster-ctl talks.\npackage main\n", "test/e2e/a_test.go": "package e2e\n"}, ""},
	{"unfinished", "comment", map[string]string{"api/a.go": "package api\n\n// TO" + "DO: more\nvar x int\n"}, "a comment says"},
	{"unfinished", "string", map[string]string{"api/a.go": "package api\n\n// todo lists are fine\nvar x = \"FIX" + "ME\"\n"}, ""},
	{"context-field", "kept", map[string]string{"api/a.go": "package api\n\nimport \"context\"\n\ntype t struct {\n\tctx context.Context\n}\n"}, "a struct holds"},
	{"context-field", "embedded", map[string]string{"api/a.go": "package api\n\nimport \"context\"\n\ntype t struct {\n\tcontext.Context\n}\n"}, "a struct holds"},
	{"context-field", "passed", map[string]string{"api/a.go": "package api\n\nimport \"context\"\n\ntype t struct {\n\tf func(context.Context)\n}\n"}, ""},
	{"logger", "package variable", map[string]string{"api/a.go": "package api\n\nimport \"log/slog\"\n\nvar log *slog.Logger\n"}, "a package variable holds a logger"},
	{"logger", "made", map[string]string{"api/a.go": "package api\n\nimport \"log\"\n\nvar l = log.New(nil, \"\", 0)\n"}, "a package variable holds a logger"},
	{"logger", "default used", map[string]string{"api/a.go": "package api\n\nimport \"log/slog\"\n\nfunc f() { slog.Info(\"x\") }\n"}, "global logger"},
	{"logger", "handed in", map[string]string{"api/a.go": "package api\n\nimport \"log/slog\"\n\nfunc f(l *slog.Logger) { l.Info(\"x\") }\n"}, ""},
	{"error-text", "contains", map[string]string{"api/a.go": "package api\n\nimport \"strings\"\n\nfunc f(err error) bool { return strings.Contains(err.Error(), \"x\") }\n"}, "text of an error is compared"},
	{"error-text", "equal", map[string]string{"api/a.go": "package api\n\nfunc f(err error) bool { return err.Error() == \"x\" }\n"}, "text of an error is compared"},
	{"error-text", "used", map[string]string{"api/a.go": "package api\n\nfunc f(err error) string { return err.Error() + \"x\" }\n"}, ""},
	{"sleep", "test sleeps", map[string]string{"api/a_test.go": "package api\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"}, "time.Sleep in a test"},
	{"sleep", "simulated time", map[string]string{"api/a_test.go": "package api\n\nimport (\n\t\"time\"\n\n\t_ \"testing/synctest\"\n)\n\nfunc f() { time.Sleep(1) }\n"}, ""},
	{"main-size", "long", map[string]string{"cluster-ctl/main.go": "package main\n" + strings.Repeat("\n", maxMainLines) + "func main() {}\n"}, "the file of main has 62 lines"},
	{"main-size", "short", map[string]string{"cluster-ctl/main.go": "package main\n\nfunc main() {}\n"}, ""},
	{"dependencies", "not listed", map[string]string{"go.mod": goodMod, dependenciesPage: "# Dependencies\n"}, "example.com/used"},
	{"dependencies", "stale", map[string]string{"go.mod": goodMod, dependenciesPage: goodDeps + "| `example.com/gone` | it was |\n"}, "example.com/gone is listed"},
	{"dependencies", "good", map[string]string{"go.mod": goodMod, dependenciesPage: goodDeps}, ""},
	{"links", "no file", map[string]string{"docs/a.md": "see [b](b.md)\n"}, "docs/a.md:1"},
	{"links", "no heading", map[string]string{"docs/a.md": "see [b](../b.md#part-two)\n", "b.md": "# Part one\n"}, "has no such heading"},
	{"links", "good", map[string]string{"docs/a.md": "see [b](../b.md#part-two-api), [c](https://example.com/x), `[d](gone)`\n```\n[e](gone)\n```\n", "b.md": "## Part two: `api`\n"}, ""},
	{"invariants", "no row", map[string]string{invariantsPage: "# Invariants\n", "state/a.go": "package state\n\n// f keeps INV-" + "ONE.\nfunc f() {}\n"}, "INV-ONE has no row"},
	{"invariants", "not kept", map[string]string{invariantsPage: "| INV-ONE | x |\n", "state/a_test.go": "package state\n\n// INV-ONE\n"}, "named by no code"},
	{"invariants", "not checked", map[string]string{invariantsPage: "| INV-ONE | x |\n", "state/a.go": "package state\n\n// INV-ONE\n"}, "checked by no test"},
	{"invariants", "good", map[string]string{invariantsPage: "| INV-ONE | x |\n", "state/a.go": "package state\n\n// INV-ONE\n", "internal/sim/a.go": "package sim\n\n// INV-ONE\n"}, ""},
}

func TestRulesCatchBadSamples(t *testing.T) {
	for _, s := range samples {
		t.Run(s.rule+"/"+s.name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for name, text := range s.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			tree, err := Load(fsys)
			if err != nil {
				t.Fatal(err)
			}
			findings := ruleNamed(t, s.rule).Check(tree)
			switch {
			case s.want == "" && len(findings) > 0:
				t.Errorf("found %s, want nothing", findings[0])
			case s.want != "" && (len(findings) != 1 || !strings.Contains(findings[0].String(), s.want)):
				t.Errorf("found %v, want one with %q", findings, s.want)
			}
		})
	}
}

func TestEveryRuleHasSamples(t *testing.T) {
	for _, r := range Rules {
		bad, good := false, false
		for _, s := range samples {
			if s.rule == r.Name {
				bad, good = bad || s.want != "", good || s.want == ""
			}
		}
		if !bad || !good {
			t.Errorf("rule %s has no bad or no good sample", r.Name)
		}
	}
}

func ruleNamed(t *testing.T, name string) Rule {
	t.Helper()
	for _, r := range Rules {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("there is no rule %s", name)
	return Rule{}
}

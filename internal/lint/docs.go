package lint

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

const dependenciesPage = "docs/dependencies.md"

// checkDependencies wants every direct dependency explained, and nothing
// explained that is not one.
func checkDependencies(t *Tree, report func(at, text string)) {
	mod, err := fs.ReadFile(t.fsys, "go.mod")
	if err != nil {
		report("go.mod", err.Error())
		return
	}
	page, err := fs.ReadFile(t.fsys, dependenciesPage)
	if err != nil {
		report(dependenciesPage, err.Error())
		return
	}
	direct := directDependencies(mod)
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllSubmatch(page, -1) {
		listed[string(m[1])] = true
		if !slices.Contains(direct, string(m[1])) {
			report(dependenciesPage, string(m[1])+" is listed but is no direct dependency")
		}
	}
	for _, d := range direct {
		if !listed[d] {
			report(dependenciesPage, "say in a row that begins with \"| `"+d+"` |\" why it was chosen")
		}
	}
}

// directDependencies returns the paths of the modules that a go.mod requires
// without the remark that they are indirect.
func directDependencies(mod []byte) []string {
	var out []string
	inside := false
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "require" && len(fields) > 1 && fields[1] == "(":
			inside = true
		case fields[0] == ")":
			inside = false
		case fields[0] == "require" && len(fields) >= 3 && !strings.Contains(line, "// indirect"):
			out = append(out, fields[1])
		case inside && !strings.HasPrefix(fields[0], "//") && !strings.Contains(line, "// indirect"):
			out = append(out, fields[0])
		}
	}
	return out
}

var (
	link  = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()\s]*\))?)\)`)
	ticks = regexp.MustCompile("`[^`]*`")
)

// checkLinks wants every relative link of a page to lead to a file, and to a
// heading where it names one.
func checkLinks(t *Tree, report func(at, text string)) {
	for _, page := range t.docs {
		src, err := fs.ReadFile(t.fsys, page)
		if err != nil {
			report(page, err.Error())
			continue
		}
		number, code := 0, false
		scanner := bufio.NewScanner(bytes.NewReader(src))
		for scanner.Scan() {
			number++
			text := scanner.Text()
			if strings.HasPrefix(strings.TrimSpace(text), "```") {
				code = !code
			}
			if code {
				continue
			}
			for _, m := range link.FindAllStringSubmatch(ticks.ReplaceAllString(text, "``"), -1) {
				if why := t.follow(page, m[1]); why != "" {
					report(fmt.Sprintf("%s:%d", page, number), fmt.Sprintf("the link %s leads nowhere: %s", m[1], why))
				}
			}
		}
	}
}

// follow returns why a link of a page leads nowhere, or "".
func (t *Tree) follow(page, target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" || u.Host != "" {
		return ""
	}
	to := page
	if u.Path != "" {
		to = path.Join(path.Dir(page), u.Path)
	}
	if _, err := fs.Stat(t.fsys, to); err != nil {
		return "there is no " + to
	}
	if u.Fragment == "" || path.Ext(to) != ".md" {
		return ""
	}
	src, err := fs.ReadFile(t.fsys, to)
	if err != nil {
		return err.Error()
	}
	if !slices.Contains(anchors(src), u.Fragment) {
		return to + " has no such heading"
	}
	return ""
}

// anchors returns the names by which the headings of a page are linked.
func anchors(src []byte) []string {
	var out []string
	for line := range strings.Lines(string(src)) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))
		out = append(out, name)
	}
	return out
}

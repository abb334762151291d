package kuborpc

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Root is where Kubo's RPC API is.
const Root = "/api/v0"

// A Call is a request that was found to be a command of Kubo's.
type Call struct {
	Name    string // canonical: "pin/ls"
	By      By
	Why     string // of Refused
	Locks   bool   // it takes Kubo's pin lock
	Args    []string
	Options url.Values // all but the arguments
}

// Resolve finds the command of a request as Kubo does: all elements of the
// path but the last name a command exactly, and the last one a subcommand of
// it, or else its first argument. No element is decoded twice or folded to
// lower case, and a path that is not clean as it was sent is no command. The method is not looked at: Kubo runs a command for
// POST alone, which is for the caller to check. It is not ok when Kubo has no
// such command.
func Resolve(r *http.Request) (Call, bool) {
	name, ok := strings.CutPrefix(r.URL.Path, Root+"/")
	if !ok || !sentAs(r.URL) {
		return Call{}, false
	}
	c := Call{Name: name}
	command, ok := commands[name]
	if !ok {
		cut := strings.LastIndexByte(name, '/')
		if cut < 0 {
			return Call{}, false
		}
		if command, ok = commands[name[:cut]]; !ok || command.group {
			return Call{}, false
		}
		c.Name, c.Args = name[:cut], []string{name[cut+1:]}
	}
	if command.by == local {
		return Call{}, false
	}
	c.Options = r.URL.Query()
	c.Args = append(c.Args, c.Options["arg"]...)
	c.Options.Del("arg")
	for _, name := range ofTheCommandLine {
		c.Options.Del(name)
	}
	c.By, c.Why, c.Locks = command.by, command.why, command.locks
	if command.form != nil {
		c.By, c.Why = command.form(c)
	}
	return c, true
}

// sentAs says whether Kubo's server takes a path as it was sent for one of the
// API: it sends clients with another than a clean path elsewhere, and an
// encoded slash does not end an element of Root.
func sentAs(u *url.URL) bool {
	sent := u.EscapedPath()
	if strings.TrimSuffix(sent, "/") != path.Clean(sent) {
		return false
	}
	for _, element := range strings.Split(Root, "/") {
		first, rest, _ := strings.Cut(sent, "/")
		if decoded, err := url.PathUnescape(first); err != nil || decoded != element {
			return false
		}
		sent = rest
	}
	return true
}

// ofTheCommandLine are options that name files and folders of the machine that
// the command line runs on. Kubo would look for them here, and show any file
// of JSON as its config.
var ofTheCommandLine = []string{"repo-dir", "config-file", "config", "c", "api", "api-auth"}

// Request is r in canonical form: the name of the command is its whole path,
// and every argument a parameter. It shares body and headers with r.
func (c Call) Request(r *http.Request) *http.Request {
	query := make(url.Values, len(c.Options)+1)
	for name, values := range c.Options {
		query[name] = values
	}
	if len(c.Args) > 0 {
		query["arg"] = slices.Clone(c.Args)
	}
	return at(r, Root+"/"+c.Name, query.Encode())
}

// Harmless is r, which is not a POST, as a request that says nothing but its
// method: Kubo answers those of one method alike and runs nothing.
func Harmless(r *http.Request) *http.Request { return at(r, Root+"/version", "") }

func at(r *http.Request, path, query string) *http.Request {
	out := r.WithContext(r.Context()) // a copy
	out.URL = &url.URL{Path: path, RawQuery: query}
	out.RequestURI = out.URL.RequestURI()
	return out
}

// NotFound answers as Kubo does when it has no such command.
func NotFound(w http.ResponseWriter) {
	w.Header().Set("Vary", "Origin")
	http.Error(w, "404 page not found", http.StatusNotFound)
}

// Refuse tells why nobody answers a command, in the form of Kubo's errors.
func (c Call) Refuse(w http.ResponseWriter) {
	why := c.Name + ": " + c.Why
	w.Header().Set("Vary", "Origin")
	if c.Options.Get("encoding") == "text" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	_ = json.NewEncoder(w).Encode(struct { // nobody is left to tell
		Message string
		Code    int
		Type    string
	}{why, 0, "error"})
}

// ParseBool reads a switch as Kubo does; one without a value is on.
func ParseBool(text string) (bool, error) {
	if text == "" {
		return true, nil
	}
	return strconv.ParseBool(strings.ToLower(text))
}

// is says whether a switch is given once, and has that very value.
func (c Call) is(name string, value bool) bool {
	if len(c.Options[name]) != 1 {
		return false
	}
	on, err := ParseBool(c.Options.Get(name))
	return err == nil && on == value
}

// has says whether an option is given, in whatever way.
func (c Call) has(name string) bool { return c.Options.Has(name) }

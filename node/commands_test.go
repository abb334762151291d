package node

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	cmds "github.com/ipfs/go-ipfs-cmds"
	cmdshttp "github.com/ipfs/go-ipfs-cmds/http"
	"github.com/ipfs/kubo/core/commands"

	"holdfast/internal/kuborpc"
)

// tree calls visit with every command of Kubo below one, by its path.
func tree(at string, c *cmds.Command, remote bool, visit func(name string, c *cmds.Command, remote bool)) {
	for name, sub := range c.Subcommands {
		remote := remote && !sub.NoRemote
		visit(at+name, sub, remote)
		tree(at+name+"/", sub, remote, visit)
	}
}

func resolve(name string) (kuborpc.Call, bool) {
	return kuborpc.Resolve(&http.Request{Method: http.MethodPost, URL: &url.URL{Path: kuborpc.Root + "/" + name}})
}

// TestCommandTable compares the table with Kubo's command tree, in both
// directions: no command of a new version is let through, or lost, in silence.
func TestCommandTable(t *testing.T) {
	inTree := map[string]bool{}
	tree("", commands.Root, true, func(name string, c *cmds.Command, remote bool) {
		inTree[name] = true
		if !slices.Contains(kuborpc.Names(), name) {
			t.Errorf("Kubo has a command %q that the table does not know: decide whose it is", name)
			return
		}
		call, ok := resolve(name)
		switch {
		case !remote && ok && call.By != kuborpc.Refused:
			t.Errorf("%s is for Kubo's command line alone", name)
		case remote && !ok:
			t.Errorf("%s is there in Kubo", name)
		}
		if _, takes := resolve(name + "/x"); takes && c.Run == nil && call.By != kuborpc.Refused {
			t.Errorf("%s takes no argument", name)
		} else if !takes && c.Run != nil && remote {
			t.Errorf("%s takes an argument", name)
		}
		if call.By == kuborpc.Refused && ok && call.Why == "" {
			t.Errorf("%s is refused without a reason", name)
		}
	})
	for _, name := range kuborpc.Names() {
		if !inTree[name] {
			t.Errorf("the table knows %q, which Kubo has not", name)
		}
	}
}

// TestPinningOptions checks that every option of Kubo's that may pin is known.
func TestPinningOptions(t *testing.T) {
	known := map[string]string{
		"add --pin": "", "add --pin-name": "", // the cluster's
		"block/put --pin": "pin=true", "dag/put --pin": "pin=true", "dag/import --pin-roots": "pin-roots=true",
		"pin/update --unpin": "", // the cluster's
	}
	found := map[string]bool{}
	tree("", commands.Root, true, func(name string, c *cmds.Command, _ bool) {
		for _, option := range c.Options {
			for _, spelling := range option.Names() {
				if strings.Contains(spelling, "pin") {
					found[name+" --"+spelling] = true
				}
			}
		}
	})
	for option := range found {
		query, ok := known[option]
		if !ok {
			t.Errorf("%s may pin behind the cluster's back", option)
			continue
		}
		name, _, _ := strings.Cut(option, " ")
		for _, form := range []string{query, strings.ToUpper(strings.TrimSuffix(query, "=true")) + "=false&" + query, strings.TrimSuffix(query, "=true"), strings.TrimSuffix(query, "true") + "perhaps", query + "&" + strings.TrimSuffix(query, "true") + "false"} {
			call, ok := kuborpc.Resolve(&http.Request{Method: http.MethodPost, URL: &url.URL{Path: kuborpc.Root + "/" + name, RawQuery: form}})
			if !ok || call.By != kuborpc.Cluster {
				t.Errorf("%s?%s goes to the node", name, form)
			}
		}
	}
	if len(found) != len(known) {
		t.Errorf("found %v, know %v", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(known)))
	}
}

// ran is what a command of Kubo's was run with; nil: none was.
type ran struct {
	name string
	args []string
}

// mock is Kubo's whole tree behind Kubo's own HTTP handler. Instead of doing
// anything, a command notes that it was run.
func mock() (h http.Handler, last func() *ran) {
	var seen *ran
	var copied func(c *cmds.Command) *cmds.Command
	copied = func(c *cmds.Command) *cmds.Command {
		out := &cmds.Command{Options: c.Options, NoRemote: c.NoRemote, Subcommands: map[string]*cmds.Command{},
			Arguments: []cmds.Argument{cmds.StringArg("arg", false, true, "")}}
		if c.Run != nil {
			out.Run = func(r *cmds.Request, _ cmds.ResponseEmitter, _ cmds.Environment) error {
				seen = &ran{strings.Join(r.Path, "/"), r.Arguments}
				return nil
			}
		}
		for name, sub := range c.Subcommands {
			out.Subcommands[name] = copied(sub)
		}
		return out
	}
	config := cmdshttp.NewServerConfig()
	config.APIPath = kuborpc.Root
	mux := http.NewServeMux()
	mux.Handle(kuborpc.Root+"/", cmdshttp.NewHandler(nil, copied(commands.Root), config))
	return mux, func() *ran { out := seen; seen = nil; return out }
}

// spellings are ways to write a command's path, right and wrong ones.
func spellings(name string) []string {
	first, rest, _ := strings.Cut(name, "/")
	return []string{
		name, name + "/x", name + "/", name + "//", name + "//x", name + "/x/", name + "/x/y", name + "/x/../y", name + "?arg=x", name + "/y?arg=x", name + "?arg=x&arg=y",
		name + "%2Fx", name + "%2fx", name + "%252Fx", name + "%00", name + "%20", name + ";x", name + "/.", name + "/..", name + "/%2e%2e", name + "/%2E", "./" + name, "%2e/" + name,
		"/" + name, "%2F" + name, "//" + name, "x/../" + name, "../v0/" + name, "..%2Fv0%2F" + name, strings.ReplaceAll(name, "/", "%2F"), strings.ReplaceAll(name, "/", "//"),
		strings.ToUpper(name), strings.ToUpper(first[:1]) + name[1:], fmt.Sprintf("%%%02x%s", name[0], name[1:]), name + "x", name + "/" + name, first + "/x/" + rest, name + "#x", name + "%23",
		name + "/config-file", name + "?config-file=/etc/passwd&arg=show", name + "?arg=a/../b&nonsense=1&nonsense=2", name + "/%0a", name + "/\u212a", name + "%3Farg=x",
	}
}

// TestResolvesAsKubo compares which command a path means, and with which
// arguments, with what Kubo's own handler runs, for each command in each
// spelling; and what the canonical form of the request makes Kubo run.
func TestResolvesAsKubo(t *testing.T) {
	kubo, last := mock()
	for _, name := range kuborpc.Names() {
		for _, spelling := range spellings(name) {
			sameAsKubo(t, kubo, last, kuborpc.Root+"/"+spelling)
		}
	}
	for _, target := range []string{"/", "/api/v0", "/api/v0/", "/api/v1/id", "/API/V0/id", "/api//v0/id", "/api/v0id", "/x/api/v0/id", "//api/v0/id", "/api%2Fv0%2Fid", "/api%2Fv0/id", "/api/v0%2Fid", "/%61pi/v0/id", "/api/%76%30/id", "/api%2Fv0/id/x", "/api/v0%2Fid/x", "/api%2Fv0%2Fpin/ls/x"} {
		sameAsKubo(t, kubo, last, target)
	}
}

func sameAsKubo(t *testing.T, kubo http.Handler, last func() *ran, target string) {
	t.Helper()
	request := func() *http.Request { return httptest.NewRequest(http.MethodPost, "http://peer"+target, nil) }
	call, ok := kuborpc.Resolve(request())
	if command, err := commands.Root.Get(strings.Split(call.Name, "/")); ok && err == nil && command.Run == nil {
		// Kubo has nothing to run, logs that, and says 200.
		if path, _ := strings.CutPrefix(request().URL.Path, kuborpc.Root+"/"); path != call.Name {
			if call.By != kuborpc.Refused {
				t.Errorf("%q is a group of commands that takes an argument", target)
			}
		}
		return
	}
	w := httptest.NewRecorder()
	kubo.ServeHTTP(w, request())
	want := last()
	if want == nil {
		if ok && call.By != kuborpc.Refused {
			t.Errorf("%q: %s %q; Kubo runs nothing and says %d", target, call.Name, call.Args, w.Code)
		}
		return
	}
	if !ok || call.Name != want.name || !slices.Equal(call.Args, want.args) {
		t.Errorf("%q: %v %s %q; Kubo runs %s %q", target, ok, call.Name, call.Args, want.name, want.args)
		return
	}
	kubo.ServeHTTP(httptest.NewRecorder(), call.Request(request()))
	if again := last(); again == nil || again.name != want.name || !slices.Equal(again.args, want.args) {
		t.Errorf("%q: the canonical form makes Kubo run %v instead of %v", target, again, want)
	}
}

func FuzzResolve(f *testing.F) {
	for _, path := range []string{"/api/v0/shutdown/x", "/api/v0/pin//ls", "/api/v0/../v0/id", "/api/v0/add/"} {
		f.Add(path, "arg=x&config-file=/x")
	}
	kubo, last := mock()
	f.Fuzz(func(t *testing.T, path, query string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		request := func() *http.Request {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.URL.Path, r.URL.RawQuery = path, query
			return r
		}
		kubo.ServeHTTP(httptest.NewRecorder(), request())
		want := last()
		call, ok := kuborpc.Resolve(request())
		if want != nil && (!ok || call.Name != want.name || !slices.Equal(call.Args, want.args)) {
			t.Errorf("%q: %v %s %q; Kubo runs %s %q", path, ok, call.Name, call.Args, want.name, want.args)
		}
	})
}

// TestNothingElseReachesKubo sends each command in each spelling by each
// method. What comes to Kubo is a command of the node in canonical form, or of
// another method than POST and thus nothing.
func TestNothingElseReachesKubo(t *testing.T) {
	n, err := New(testConfig(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	var reached []*http.Request
	n.open = &opened{rpc: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached = append(reached, r) })}
	forms := map[string]bool{"block/put": true, "dag/put": true, "dag/import": true, "config": true, "log/level": true, "filestore/verify": true, "repo/verify": true}
	for _, name := range kuborpc.Names() {
		for _, spelling := range append(spellings(name), name+"?pin=true&pin-roots=true&drop=true&heal=true&remove-bad-blocks=true&arg=a&arg=b") {
			for _, method := range []string{"POST", "GET", "PUT", "HEAD", "OPTIONS", "DELETE", "post"} {
				reached = nil
				w := httptest.NewRecorder()
				if name == "repo/gc" && method == "POST" {
					continue // ours: TestRPCCollects
				}
				n.RPC().ServeHTTP(w, httptest.NewRequest(method, "http://peer/api/v0/"+spelling, nil))
				if len(reached) == 0 {
					if w.Code != http.StatusForbidden && w.Code != http.StatusNotFound {
						t.Errorf("%s %s: %d", method, spelling, w.Code)
					}
					continue
				}
				got := strings.TrimPrefix(reached[0].URL.Path, "/api/v0/")
				switch call, ok := resolve(got); {
				case method != "POST" && got == "version" && reached[0].URL.RawQuery == "":
				case method != "POST":
					t.Errorf("%s %s reaches Kubo as %s", method, spelling, reached[0].URL)
				case !ok || call.Name != got || call.By != kuborpc.Node && !forms[got]:
					t.Errorf("%s reaches Kubo as %s", spelling, reached[0].URL)
				case forms[got] && strings.Contains(reached[0].URL.RawQuery, "pin=true"):
					t.Errorf("%s reaches Kubo as %s", spelling, reached[0].URL)
				case strings.Contains(reached[0].URL.RawQuery, "config-file=%2F"):
					t.Errorf("%s reads any file: %s", spelling, reached[0].URL)
				}
			}
		}
	}
}

// TestConfigIsRead checks what of Kubo's config is shown and what is set.
func TestConfigIsRead(t *testing.T) {
	for query, want := range map[string]kuborpc.By{
		"arg=Datastore.StorageMax": kuborpc.Node, "arg=Identity.PeerID": kuborpc.Node, "": kuborpc.Node,
		"arg=Identity.PrivKey": kuborpc.Refused, "arg=identity": kuborpc.Refused, "arg=API": kuborpc.Refused, "arg=API.Authorizations": kuborpc.Refused,
		"arg=AutoTLS.RegistrationToken": kuborpc.Refused, "arg=Plugins": kuborpc.Refused,
		"arg=Datastore.Spec&arg={}&json=true": kuborpc.Refused, "arg=Experimental.Libp2pStreamMounting&arg=true&bool=true": kuborpc.Refused,
		"arg=Addresses.Swarm&arg=": kuborpc.Refused, "arg=Import.CidVersion&arg=1": kuborpc.Refused,
	} {
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/api/v0/config", RawQuery: query}}
		if call, ok := kuborpc.Resolve(r); !ok || call.By != want {
			t.Errorf("config?%s: %v, want %v (%s)", query, call.By, want, call.Why)
		}
	}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/api/v0/config/Addresses.Swarm", RawQuery: "arg=x"}}
	if call, _ := kuborpc.Resolve(r); call.By != kuborpc.Refused || !strings.Contains(call.Why, "ipfs.swarm") {
		t.Errorf("the reason does not name the setting: %s", call.Why)
	}
}

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

// kuboCLI builds the unmodified ipfs command of the Kubo version in go.mod. Its
// command line needs modules that ours does not, so it is built with a copy of
// go.mod.
func kuboCLI(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(repoRoot, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "ipfs")
	build := exec.Command("go", "build", "-mod=mod", "-modfile="+filepath.Join(dir, "go.mod"), "-o", bin, "github.com/ipfs/kubo/cmd/ipfs")
	build.Dir = repoRoot
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("the ipfs command cannot be built here: %v\n%s", err, out)
	}
	return bin
}

// kuboUser runs ipfs commands.
type kuboUser struct {
	t    *testing.T
	bin  string
	home string
	api  string // "": its own repository, without a daemon
}

func (u kuboUser) try(stdin []byte, args ...string) (string, string, error) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	if u.api != "" {
		args = append([]string{"--api", u.api}, args...)
	}
	cmd := exec.CommandContext(ctx, u.bin, args...)
	cmd.Env = []string{"HOME=" + u.home, "IPFS_PATH=" + filepath.Join(u.home, "repo"), "IPFS_TELEMETRY=off"}
	cmd.Dir, cmd.Stdin = u.home, bytes.NewReader(stdin)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	return strings.TrimSpace(out.String()), strings.TrimSpace(problems.String()), err
}

func (u kuboUser) run(stdin []byte, args ...string) string {
	u.t.Helper()
	out, problems, err := u.try(stdin, args...)
	if err != nil {
		u.t.Fatalf("ipfs %s: %v\n%s\n%s", strings.Join(args, " "), err, out, problems)
	}
	return out
}

// An unmodified ipfs command works through the proxy, and what it pins is
// pinned by the cluster.
func TestIPFSCommand(t *testing.T) {
	bin, home := kuboCLI(t), t.TempDir()
	c := newCluster(t, 2, nil)
	one := kuboUser{t, bin, home, loopback(c.peers[0].ports.proxy)}
	two := kuboUser{t, bin, home, loopback(c.peers[1].ports.proxy)}
	alone := kuboUser{t, bin, home, ""}
	alone.run(nil, "init", "--empty-repo", "--profile", "test")

	folder := writeFolder(t, home)
	for _, options := range [][]string{{}, {"--cid-version", "1"}, {"--raw-leaves"}, {"--trickle"}, {"--chunker", "size-1000"}, {"--chunker", "rabin"},
		{"--wrap-with-directory"}, {"--hidden"}, {"--hash", "blake2b-256"}} {
		args := append([]string{"add", "--recursive", "--quiet"}, options...)
		want := alone.run(nil, append(args, "--only-hash", folder)...)
		got := one.run(nil, append(args, folder)...)
		if got != want {
			t.Errorf("add %v through the proxy:\n%s\nipfs alone:\n%s", options, got, want)
		}
	}
	root := one.run(nil, "add", "--recursive", "--quieter", folder)
	cid, err := api.DecodeCid(root)
	if err != nil {
		t.Fatal(err)
	}
	waitStatus(t, c.peers[0], cid, api.StatusPinned)
	waitStatus(t, c.peers[1], cid, api.StatusPinned)
	if got := two.run(nil, "cat", root+"/a.txt"); got != "text of a" {
		t.Errorf("cat: %q", got)
	}
	if got := two.run(nil, "ls", root); !strings.Contains(got, "a.txt") || !strings.Contains(got, "sub/") {
		t.Errorf("ls: %q", got)
	}
	out := filepath.Join(home, "out")
	two.run(nil, "get", "--output", out, root)
	if data, err := os.ReadFile(filepath.Join(out, "sub", "b.txt")); err != nil || string(data) != "text of b" {
		t.Errorf("get: %q %v", data, err)
	}
	two.pins(root, true)
	if got := two.run(nil, "pin", "rm", root); got != "unpinned "+root {
		t.Errorf("pin rm: %q", got)
	}
	two.pins(root, false)
	if _, problems, err := one.try(nil, "pin", "rm", root); err == nil || !strings.Contains(problems, "not pinned") {
		t.Errorf("pin rm of nothing: %v %q", err, problems)
	}
	if got := one.run(nil, "pin", "add", root); got != "pinned "+root+" recursively" {
		t.Errorf("pin add: %q", got)
	}
	two.pins(root, true)
	if _, _, err := one.try(nil, "pin", "add", "notacid"); err == nil {
		t.Error("pin add of what is no CID succeeded")
	}
	one.others(t, two, root)
}

// others are commands that the node answers, and some that only look so.
func (u kuboUser) others(t *testing.T, two kuboUser, root string) {
	t.Helper()
	var id struct{ ID string }
	if err := json.Unmarshal([]byte(u.run(nil, "id")), &id); err != nil || id.ID == "" {
		t.Errorf("id: %+v %v", id, err)
	}
	block := u.run([]byte("a block"), "block", "put", "--pin")
	two.pins(block, true)
	if got := two.run(nil, "block", "get", block); got != "a block" {
		t.Errorf("block get: %q", got)
	}
	node := u.run([]byte(`{"link":{"/":"`+block+`"}}`), "dag", "put", "--pin")
	two.pins(node, true)
	if got := two.run(nil, "dag", "get", node+"/link"); !strings.Contains(got, "bytes") {
		t.Errorf("dag get: %q", got)
	}
	if got := u.run(nil, "repo", "stat"); !strings.Contains(got, "NumObjects") || !strings.Contains(got, "RepoSize") {
		t.Errorf("repo stat: %q", got)
	}
	piped := u.run([]byte("from a pipe"), "add", "--quieter")
	if got := u.run(nil, "cat", piped); got != "from a pipe" {
		t.Errorf("cat: %q", got)
	}
	u.run(nil, "pin", "update", root, piped)
	two.pins(piped, true)
	two.pins(root, false)
	u.run(nil, "repo", "gc", "--quiet")
	if got := u.run(nil, "version", "--number"); got == "" {
		t.Error("version says nothing")
	}
}

// pins waits until pin ls says, by name and in whole, whether something is
// pinned: another peer than the one that was asked may learn of it a moment
// later.
func (u kuboUser) pins(root string, want bool) {
	u.t.Helper()
	eventually(u.t, 10*time.Second, fmt.Sprintf("%s is pinned: %v", root, want), func(context.Context) error {
		list := strings.Fields(u.run(nil, "pin", "ls", "--type", "recursive", "--quiet"))
		if got := slices.Contains(list, root); got != want {
			return fmt.Errorf("pin ls lists it: %v", got)
		}
		out, problems, err := u.try(nil, "pin", "ls", root)
		if want && (err != nil || out != root+" recursive") || !want && (err == nil || !strings.Contains(problems, "not pinned")) {
			return fmt.Errorf("pin ls %s: %w %q %q", root, err, out, problems)
		}
		return nil
	})
}

// writeFolder makes a folder of a few files.
func writeFolder(t *testing.T, base string) string {
	t.Helper()
	dir := filepath.Join(base, "folder")
	files := map[string][]byte{"a.txt": []byte("text of a"), "sub/b.txt": []byte("text of b"), ".hidden": []byte("h"), "empty": nil,
		"big": bytes.Repeat([]byte("0123456789"), 100_000)}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.txt", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

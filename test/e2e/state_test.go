//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/api"
)

// linesOf writes an export of n pins in the incumbent's shape, on peers that no
// cluster here has.
func linesOf(t *testing.T, path string, seed uint64, n int) {
	t.Helper()
	var out bytes.Buffer
	for i := range n {
		fmt.Fprintf(&out, `{"replication_factor_min":1,"replication_factor_max":2,"name":"pin %d","mode":"recursive","shard_size":0,"user_allocations":null,"expire_at":"0001-01-01T00:00:00Z","metadata":{"n":"%d"},"pin_update":null,"origins":[],"cid":"%s","type":"pin","allocations":["12D3KooWRvGuvedTvYHPu2Wzqgk4wvRStwoguTFmBid1g2oLtFKP"],"max_depth":-1,"reference":null,"timestamp":"2020-01-02T03:04:05Z"}`+"\n",
			i, i, rawCid(t, seed, uint64(i)))
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// exportedPins reads an export: by CID, the line without its allocations, which
// belong to one cluster.
func exportedPins(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var pin api.Pin
		if err := json.Unmarshal(lines.Bytes(), &pin); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if len(pin.Allocations) == 0 && !pin.IsEverywhere() {
			t.Errorf("%s is on no peer", pin.Cid)
		}
		pin.Allocations = nil
		pin.Origins = nil // null or an empty list
		text, err := json.Marshal(pin)
		if err != nil {
			t.Fatal(err)
		}
		out[pin.Cid.String()] = string(text)
	}
	return out
}

// whole fails the test unless the peer's indexes, log and snapshots are.
func (p *testPeer) whole() {
	p.t.Helper()
	out := p.mustService("state", "check", "--enc", "json")
	answer := struct{ Problems []string }{Problems: []string{"no answer"}}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Problems) > 0 {
		p.t.Errorf("%s: check: %v\n%s", p.name, err, out)
	}
}

// hashFormat is a number for what the hash covers, and a SHA-256.
var hashFormat = regexp.MustCompile(`^[1-9][0-9]*:[0-9a-f]{64}$`)

// stateHash is the hash of a peer that runs or not, without its index.
func (p *testPeer) stateHash() string {
	p.t.Helper()
	var answer struct{ Hash string }
	out := p.mustService("state", "hash", "--enc", "json")
	if err := json.Unmarshal([]byte(out), &answer); err != nil || !hashFormat.MatchString(answer.Hash) {
		p.t.Fatalf("%s: hash: %v\n%s", p.name, err, out)
	}
	return answer.Hash
}

// killedService kills a command in the middle of its work.
func (p *testPeer) killedService(after time.Duration, args ...string) {
	p.t.Helper()
	cmd := exec.Command(serviceBin, args...)
	cmd.Env, cmd.Dir = p.environment(), filepath.Dir(p.dir)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	pause(p.t.Context(), after)
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()
}

// Everything is lost but an export; a new cluster takes it in.
func TestBackupAndRestore(t *testing.T) {
	const pins = 3000
	c := newCluster(t, 3, nil)
	file, backup := filepath.Join(c.base, "pins.ndjson"), filepath.Join(c.base, "backup.ndjson")
	linesOf(t, file, 1, pins)
	follower := c.peers[2]
	if follower == c.leader() {
		follower = c.peers[1]
	}

	// Bad input changes nothing.
	bad := filepath.Join(c.base, "bad.ndjson")
	if err := os.WriteFile(bad, []byte(`{"cid":"QmP63DkAFEnDYNjDYBpyNDfttu1fvUw99x1brscPzpqmmq"}`+"\nrubbish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := follower.service("state", "import", "--replace", "--yes", bad); exitCode(err) != 1 || !strings.Contains(out, "line 2") {
		t.Errorf("import of rubbish: %v\n%s", err, out)
	}
	impossible, aside := `{"cid":"QmP63DkAFEnDYNjDYBpyNDfttu1fvUw99x1brscPzpqmmq","metadata":{"":"x"}}`+"\n", filepath.Join(c.base, "aside.ndjson")
	if err := os.WriteFile(bad, []byte(impossible), 0o600); err != nil {
		t.Fatal(err)
	}
	follower.mustService("state", "import", "--skip-bad", aside, bad)
	if got, err := os.ReadFile(aside); err != nil || string(got) != impossible {
		t.Errorf("aside lies %q, %v", got, err)
	}
	if got := c.samePinset(startTime); len(got) != 0 {
		t.Fatalf("rubbish made %d pins", len(got))
	}

	// A command that is killed half way is repeated, and so is one whose peer was.
	follower.killedService(300*time.Millisecond, "state", "import", file)
	importing := make(chan error, 1)
	go func() {
		out, err := follower.service("state", "import", file)
		if err != nil && !strings.Contains(out, "repeat it to go on") && !strings.Contains(out, "no peer is running") {
			err = fmt.Errorf("%w: %s", err, out)
		} else {
			err = nil // it may have waited for the peer to come back
		}
		importing <- err
	}()
	pause(t.Context(), 200*time.Millisecond)
	follower.kill()
	follower.startReady()
	if err := <-importing; err != nil {
		t.Errorf("an import whose peer was killed: %v", err)
	}
	out := follower.mustService("state", "import", file)
	if !strings.Contains(out, fmt.Sprintf("imported %d of %d", pins, pins)) {
		t.Errorf("import said: %s", out)
	}
	if got := c.samePinset(startTime); len(got) != pins {
		t.Fatalf("%d pins after the import, want %d", len(got), pins)
	}
	if out := c.peers[0].mustService("state", "import", file); !strings.Contains(out, "0 stored") {
		t.Errorf("the same import again: %s", out)
	}

	exportWhileWriting(t, c, follower)

	hash := follower.stateHash()
	follower.mustService("state", "export", "--out", backup)
	want := exportedPins(t, backup)
	first, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.peers {
		p.whole()
		if got := p.stateHash(); got != hash {
			t.Errorf("%s has hash %s, want %s", p.name, got, hash)
		}
		if p.running() {
			if _, err := p.stop(time.Minute); err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
		}
	}
	for _, p := range c.peers {
		p.whole()
		if got := p.stateHash(); got != hash {
			t.Errorf("%s, stopped, has hash %s, want %s", p.name, got, hash)
		}
		again := filepath.Join(c.base, "again.ndjson")
		p.mustService("state", "export", "--out", again)
		if data, err := os.ReadFile(again); err != nil || !bytes.Equal(data, first) {
			t.Errorf("%s, stopped, exports something else (%v)", p.name, err)
		}
		if out, err := p.service("state", "import", file); exitCode(err) != 1 || !strings.Contains(out, "start it and import again") {
			t.Errorf("%s, one of three, imports alone: %v\n%s", p.name, err, out)
		}
		if err := os.RemoveAll(p.dir); err != nil {
			t.Fatal(err)
		}
	}

	restored := newCluster(t, 3, nil)
	restored.peers[1].mustService("state", "import", backup)
	restored.samePinset(startTime)
	got := filepath.Join(restored.base, "restored.ndjson")
	restored.peers[2].mustService("state", "export", "--out", got)
	if pins := exportedPins(t, got); !maps.Equal(pins, want) {
		t.Errorf("%d pins before, %d after, or others", len(want), len(pins))
	}
	restored.noPanic()
}

// exportWhileWriting takes exports while one pin follows the other: each must
// hold the pins up to one of them, and none after.
func exportWhileWriting(t *testing.T, c *testCluster, from *testPeer) {
	t.Helper()
	const writes = 300
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for i := range uint64(writes) {
			if _, err := c.peers[0].rest.Pin(t.Context(), rawCid(t, 2, i), api.PinOptions{}); err != nil {
				t.Errorf("pin: %v", err)
				return
			}
		}
	})
	path := filepath.Join(c.base, "running.ndjson")
	for range 5 {
		from.mustService("state", "export", "--out", path)
		got := exportedPins(t, path)
		missing := -1
		for i := range writes {
			_, has := got[rawCid(t, 2, uint64(i)).String()]
			if !has && missing < 0 {
				missing = i
			}
			if has && missing >= 0 {
				t.Errorf("an export holds write %d and not write %d", i, missing)
				break
			}
		}
	}
}

// A peer that is alone takes pins in while it does not run; whatever ends that
// early, the peer starts and the rest can follow.
func TestImportIntoStoppedPeer(t *testing.T) {
	const pins = 20_000
	base := workDir(t)
	p := newPeer(t, base, "peer0", nil)
	file := filepath.Join(base, "pins.ndjson")
	linesOf(t, file, 3, pins)
	p.mustService("init", "--private")
	for k := range 4 {
		p.killedService(time.Duration(300+500*k)*time.Millisecond, "state", "import", file)
		p.whole()
	}
	out := p.mustService("state", "import", file)
	if !strings.Contains(out, fmt.Sprintf("imported %d of %d", pins, pins)) {
		t.Errorf("import said: %s", out)
	}
	p.whole()
	hash := p.stateHash()
	target := filepath.Join(base, "export.ndjson")
	for k := range 4 {
		p.killedService(time.Duration(20+40*k)*time.Millisecond, "state", "export", "--out", target)
		if _, err := os.Stat(target); err == nil {
			if got := exportedPins(t, target); len(got) != pins {
				t.Errorf("an export that was killed left a file of %d pins", len(got))
			}
		}
	}
	if got := p.stateHash(); got != hash {
		t.Errorf("an export changed the pinset")
	}
	p.startReady()
	got, err := p.pinset(t.Context())
	if err != nil || len(got) != pins {
		t.Errorf("%d pins after the start, want %d: %v", len(got), pins, err)
	}
	p.whole()
}

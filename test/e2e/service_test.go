//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/api"
)

// Two daemons cannot run in one folder; the second says which and what to do.
func TestLockedFolder(t *testing.T) {
	c := newCluster(t, 1, nil)
	first := c.peers[0]
	second := newPeer(t, c.base, "peer0", nil) // the same folder, ports of its own
	out, err := second.service("daemon")
	if exitCode(err) != 1 || !strings.Contains(out, "another process runs a peer in "+first.dir) || !strings.Contains(out, "--dir") {
		t.Errorf("daemon in a folder that is in use: %v\n%s", err, out)
	}
	if out, err := second.service("init"); exitCode(err) != 1 || !strings.Contains(out, "already holds a peer") {
		t.Errorf("init in a folder that is in use: %v\n%s", err, out)
	}
	first.mustCtl(startTime, "id")
}

// A folder that a later version wrote is left alone.
func TestNewerFormat(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	p.mustService("init", "--private")
	p.startReady()
	if _, err := p.stop(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	format := filepath.Join(p.dir, "format")
	if err := os.WriteFile(format, []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := p.service("daemon")
	if exitCode(err) != 1 || !strings.Contains(out, "format 99") || !strings.Contains(out, "newer version") {
		t.Errorf("daemon on a folder of format 99: %v\n%s", err, out)
	}
	if data, err := os.ReadFile(format); err != nil || string(data) != "99\n" {
		t.Errorf("the format file became %q %v", data, err)
	}
}

// A founder that lost its log does not begin its cluster a second time.
func TestFounderWithoutLog(t *testing.T) {
	c := newCluster(t, 2, nil)
	founder := c.peers[0]
	founder.kill()
	for _, folder := range []string{"raft", "state"} {
		if err := os.RemoveAll(filepath.Join(founder.dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := founder.service("daemon")
	if exitCode(err) != 1 || !strings.Contains(out, "must not begin it a second time") {
		t.Errorf("daemon without its log: %v\n%s", err, out)
	}
}

// A daemon without a peer says how to make one.
func TestNoPeerYet(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	for _, command := range []string{"daemon", "health"} {
		if out, err := p.service(command); exitCode(err) != 1 || out == "" {
			t.Errorf("%s without a peer: %v\n%s", command, err, out)
		}
	}
	out, _ := p.service("daemon")
	for _, want := range []string{p.dir, "init", "join TOKEN"} {
		if !strings.Contains(out, want) {
			t.Errorf("daemon without a peer does not say %q:\n%s", want, out)
		}
	}
}

// The files that init writes are its owner's alone.
func TestInitFiles(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	p.mustService("init", "--private")
	if info, err := os.Stat(p.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v %v", p.dir, info.Mode(), err)
	}
	for _, name := range []string{"service.json", "identity.json", "cluster.json"} {
		if info, err := os.Stat(filepath.Join(p.dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	before, err := os.ReadFile(filepath.Join(p.dir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := p.service("init"); exitCode(err) != 1 {
		t.Errorf("a second init: %v\n%s", err, out)
	}
	if after, err := os.ReadFile(filepath.Join(p.dir, "identity.json")); err != nil || string(after) != string(before) {
		t.Errorf("a second init changed the identity: %v", err)
	}
}

// All problems of a config are told at once, by name.
func TestBadConfig(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	p.mustService("init")
	file := `{"restapi": {"listne": []}, "replication": {"min": 3, "max": 2}, "repair": {"below_min_grace": 5},
		"http": {"tls_cert": "cert.pem"}, "colour": "blue"}`
	if err := os.WriteFile(filepath.Join(p.dir, "service.json"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	p.env["CLUSTER_PINSVC_LISTEN"] = "localhost:9097"
	p.env["CLUSTER_RESTAPI_LISTEN"] = "/ip4/0.0.0.0/tcp/9094"
	want := []string{"restapi.listne", "replication.min 3 and replication.max 2", "below_min_grace", "http.tls_cert", `"colour"`,
		"localhost:9097", "restapi.listen: /ip4/0.0.0.0/tcp/9094 is reachable", `"no.such"`, `log.level: "loud"`}
	for _, command := range []string{"daemon", "config show"} {
		args := append(strings.Fields(command), "--set", "log.level=loud", "--set", "no.such=1")
		out, err := p.service(args...)
		if exitCode(err) != 1 {
			t.Errorf("%s: %v", command, err)
		}
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("%s does not name %q:\n%s", command, text, out)
			}
		}
	}
	if out, err := p.service("daemon", "--colour"); exitCode(err) != 1 || !strings.Contains(out, "colour") {
		t.Errorf("an unknown flag: %v\n%s", err, out)
	}
	if out, err := p.service("deamon"); exitCode(err) != 1 || !strings.Contains(out, "deamon") {
		t.Errorf("an unknown command: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "service.json"), []byte(`{"log": `), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := p.service("daemon"); exitCode(err) != 1 || !strings.Contains(out, "service.json") {
		t.Errorf("a config that is no JSON: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "raft")); err == nil {
		t.Error("a daemon with a bad config made a raft folder")
	}
}

// A port that is in use is named, and nothing is left behind.
func TestBusyPort(t *testing.T) {
	c := newCluster(t, 1, nil)
	p := newPeer(t, c.base, "other", nil)
	p.mustService("init", "--private")
	for _, variable := range []string{"CLUSTER_RESTAPI_LISTEN", "CLUSTER_IPFSPROXY_LISTEN", "CLUSTER_PINSVC_LISTEN",
		"CLUSTER_IPFS_GATEWAY_LISTEN", "CLUSTER_CLUSTER_LISTEN", "CLUSTER_IPFS_SWARM"} {
		own := p.env[variable]
		p.env[variable] = c.peers[0].env[variable]
		port := p.env[variable][strings.LastIndex(p.env[variable], "/")+1:]
		if out, err := p.service("daemon"); exitCode(err) != 1 || !strings.Contains(out, port) {
			t.Errorf("%s is busy: %v\n%s", variable, err, out)
		}
		p.env[variable] = own
	}
	p.startReady()
}

// SIGTERM ends a busy peer within seconds, with 0, and nothing that was
// acknowledged is lost; the second start is as quick as the first.
func TestSIGTERM(t *testing.T) {
	random := seeded(t)
	c := newCluster(t, 3, ackedSettings)
	r := &pinners{t: t, peers: c.peers, clients: 16, seed: random.Uint64()}
	ended, stop := r.start()
	defer stop()
	for round := range 2 * len(c.peers) {
		waitAcked(t, r, ended, 100*(round+1))
		p := c.peers[round%len(c.peers)]
		took, err := p.stop(15 * time.Second)
		if err != nil {
			t.Errorf("%s ended with %v after SIGTERM\n%s", p.name, err, tail(p.logAt, 20))
		}
		t.Logf("%s stopped in %s", p.name, took.Round(time.Millisecond))
		p.startReady()
	}
	stop()
	c.waitWhole()
	r.check(c.samePinset(time.Minute))
	c.noPanic()
}

// Two signals end the process at once, and that is safe too.
func TestTwoSignals(t *testing.T) {
	c := newCluster(t, 1, nil)
	p := c.peers[0]
	cid := rawCid(t, 1, 1)
	if _, err := p.rest.Pin(t.Context(), cid, api.PinOptions{}); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGINT)
	if p.running() {
		_ = p.cmd.Process.Signal(syscall.SIGINT) // it may be gone
	}
	_ = p.waitExit(15 * time.Second)
	p.startReady()
	if _, err := p.rest.Allocation(t.Context(), cid); err != nil {
		t.Error(err)
	}
}

// The HTTP APIs are open, and say that they are not ready, while a peer
// starts. The start is held up by holding the lock of its log's list of
// segments.
func TestNotReady(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	p.mustService("init", "--private")
	p.startReady()
	if _, err := p.stop(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	release := lockLog(t, p)
	p.start()
	for _, where := range []struct {
		method string
		port   int
		target string
		json   string
	}{
		{"GET", p.ports.rest, "/id", "message"}, {"GET", p.ports.rest, "/health/ready", "message"}, {"GET", p.ports.rest, "/pins", "message"},
		{"POST", p.ports.proxy, "/api/v0/id", "Message"}, {"GET", p.ports.pinsvc, "/pins", "error"},
	} {
		eventually(t, startTime, where.target+" says 503", func(ctx context.Context) error {
			return notReady(ctx, where.method, where.port, where.target, where.json)
		})
	}
	if out, err := p.service("health"); exitCode(err) != 1 || !strings.Contains(out, "not ready") {
		t.Errorf("health of a peer that starts: %v\n%s", err, out)
	}
	if out, err := p.service("token", "create"); exitCode(err) != 1 || !strings.Contains(out, "not ready") {
		t.Errorf("a token of a peer that starts: %v\n%s", err, out)
	}
	release()
	p.waitReady(startTime)
	eventually(t, startTime, "health of a peer that has started", func(context.Context) error { // once it has heard of a leader
		out, err := p.service("health")
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
}

// lockLog holds the lock of a stopped peer's raft log until release is called.
func lockLog(t *testing.T, p *testPeer) (release func()) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.dir, "raft", "*", "wal-meta.db"))
	if err == nil && len(found) == 0 {
		found, err = filepath.Glob(filepath.Join(p.dir, "raft", "wal-meta.db"))
	}
	if err != nil || len(found) != 1 {
		t.Fatalf("the log's list of segments: %v %v", found, err)
	}
	f, err := os.Open(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func notReady(ctx context.Context, method string, port int, target, field string) error {
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", port, target), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var answer map[string]any
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		return fmt.Errorf("%s %v %s", response.Status, response.Header, body)
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer[field] == nil || !strings.Contains(string(body), "not ready") {
		return errors.Join(fmt.Errorf("body %s", body), err)
	}
	return nil
}

// A peer that says it is ready takes pins and files at once.
func TestReadyMeansReady(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	p.mustService("init", "--private")
	for round := range 5 {
		p.startReady()
		if _, err := p.rest.Pin(t.Context(), rawCid(t, 1, uint64(round)), api.PinOptions{}); err != nil {
			t.Errorf("start %d: a pin: %v", round, err)
		}
		if _, err := p.addBytes(t.Context(), []byte{byte(round)}, api.NewAddParams()); err != nil {
			t.Errorf("start %d: an add: %v", round, err)
		}
		p.kill()
	}
}

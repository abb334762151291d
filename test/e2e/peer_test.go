//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/client"
)

// startTime is how long a peer may take to become ready, on a busy machine.
const startTime = 2 * time.Minute

// testPeer is one cluster-service process with its folder and its ports.
type testPeer struct {
	t     *testing.T
	name  string
	dir   string
	logAt string
	env   map[string]string // settings, by variable
	ports peerPorts
	files int // that the process may open; 0: as many as the tests
	rest  *client.Client
	id    peer.ID // known once it has a cluster
	// program is another cluster-service than the one under test; "": none.
	program string

	cmd  *exec.Cmd     // of the running process; nil: none
	done chan struct{} // closed when cmd has ended
	exit error         // how it ended; read after done

	shown bool // its log was shown
}

type peerPorts struct{ rest, proxy, pinsvc, cluster, swarm, gateway int }

// newPeer gives a peer its folder and ports. It runs nothing.
func newPeer(t *testing.T, base, name string, settings map[string]string) *testPeer {
	t.Helper()
	p := &testPeer{t: t, name: name, dir: filepath.Join(base, name), logAt: filepath.Join(base, name+".log"),
		ports: peerPorts{freePort(t), freePort(t), freePort(t), freePort(t), freePort(t), freePort(t)}}
	p.env = map[string]string{
		"CLUSTER_DIR":                 p.dir,
		"CLUSTER_PEERNAME":            name,
		"CLUSTER_RESTAPI_LISTEN":      loopback(p.ports.rest),
		"CLUSTER_IPFSPROXY_LISTEN":    loopback(p.ports.proxy),
		"CLUSTER_PINSVC_LISTEN":       loopback(p.ports.pinsvc),
		"CLUSTER_CLUSTER_LISTEN":      loopback(p.ports.cluster),
		"CLUSTER_IPFS_SWARM":          loopback(p.ports.swarm),
		"CLUSTER_IPFS_GATEWAY_LISTEN": loopback(p.ports.gateway),
		"CLUSTER_IPFS_PUBLIC":         "false",
	}
	for key, value := range settings {
		p.env[key] = value
	}
	var err error
	if p.rest, err = client.New(client.Config{Addrs: []string{loopback(p.ports.rest)}, Timeout: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.cleanup)
	return p
}

func loopback(port int) string { return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port) }

// environment is what the peer's processes see: nothing of the tester's
// settings, and no home folder but their own.
func (p *testPeer) environment() []string {
	env := []string{"HOME=" + filepath.Dir(p.dir), "PATH=" + os.Getenv("PATH")}
	for key, value := range p.env {
		env = append(env, key+"="+value)
	}
	return env
}

func (p *testPeer) binary() string {
	if p.program != "" {
		return p.program
	}
	return serviceBin
}

// service runs a cluster-service command that ends, and returns what it
// printed on both streams.
func (p *testPeer) service(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), startTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.binary(), args...)
	cmd.Env, cmd.Dir = p.environment(), filepath.Dir(p.dir)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// mustService is service for a command that has to succeed.
func (p *testPeer) mustService(args ...string) string {
	p.t.Helper()
	out, err := p.service(args...)
	if err != nil {
		p.t.Fatalf("%s: cluster-service %s: %v\n%s", p.name, strings.Join(args, " "), err, out)
	}
	return out
}

// start runs the daemon and does not wait for it.
func (p *testPeer) start() {
	p.t.Helper()
	if p.running() {
		p.t.Fatalf("%s runs already", p.name)
	}
	log, err := os.OpenFile(p.logAt, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close() // the process has its own
	fmt.Fprintf(log, "--- start at %s\n", time.Now().Format(time.RFC3339Nano))
	cmd := exec.Command(p.binary(), "daemon")
	if p.files > 0 {
		cmd = exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" daemon`, p.files), p.binary())
	}
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.environment(), filepath.Dir(p.dir), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		p.exit = cmd.Wait()
		close(done)
	}()
}

// startReady runs the daemon and waits until its API answers.
func (p *testPeer) startReady() {
	p.t.Helper()
	p.start()
	p.waitReady(startTime)
}

func (p *testPeer) waitReady(limit time.Duration) {
	p.t.Helper()
	eventually(p.t, limit, p.name+" is ready", func(ctx context.Context) error {
		select {
		case <-p.done:
			p.t.Fatalf("%s ended: %v\n%s", p.name, p.exit, tail(p.logAt, 20))
		default:
		}
		id, err := p.rest.ID(ctx)
		if err == nil {
			p.id = id.ID
		}
		return err
	})
}

func (p *testPeer) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to the running process.
func (p *testPeer) signal(s syscall.Signal) {
	p.t.Helper()
	if !p.running() {
		p.t.Fatalf("%s does not run", p.name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v: %v", p.name, s, err)
	}
}

// kill ends the process as a power cut would, as far as the kernel lives on.
func (p *testPeer) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// signalKill is kill without the wait.
func (p *testPeer) signalKill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
}

// stop asks the process to end and returns how it did and how long that took.
func (p *testPeer) stop(limit time.Duration) (time.Duration, error) {
	p.t.Helper()
	begun := time.Now()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return time.Since(begun), p.exit
	case <-time.After(limit):
		p.t.Fatalf("%s did not stop within %s of SIGTERM\n%s", p.name, limit, tail(p.logAt, 30))
		return 0, nil
	}
}

// waitExit waits until the process has ended by itself.
func (p *testPeer) waitExit(limit time.Duration) error {
	p.t.Helper()
	select {
	case <-p.done:
		return p.exit
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %s\n%s", p.name, limit, tail(p.logAt, 30))
		return nil
	}
}

// cleanup ends what runs, and shows the log of a test that failed.
func (p *testPeer) cleanup() {
	if p.running() {
		_ = p.cmd.Process.Signal(syscall.SIGCONT) // it may be stopped; it may be gone meanwhile
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if p.t.Failed() && !p.shown {
		p.shown = true
		p.t.Logf("log of %s:\n%s", p.name, tail(p.logAt, 40))
	}
}

// tail returns the last lines of a file.
func tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 1<<16 {
		_, _ = f.Seek(-1<<16, io.SeekEnd)
	}
	data, _ := io.ReadAll(f)
	all := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return string(bytes.Join(all, []byte("\n")))
}

// exitCode is that of a command that ended, or -1.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// ctl runs cluster-ctl against this peer; it must end within the limit.
func (p *testPeer) ctl(limit time.Duration, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, ctlBin, append([]string{"--host", loopback(p.ports.rest)}, args...)...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.Env = []string{"HOME=" + filepath.Dir(p.dir), "PATH=" + os.Getenv("PATH")}
	err = cmd.Run()
	return out.String(), problems.String(), err
}

func (p *testPeer) mustCtl(limit time.Duration, args ...string) string {
	p.t.Helper()
	out, problems, err := p.ctl(limit, args...)
	if err != nil {
		p.t.Fatalf("cluster-ctl %s: %v\n%s%s", strings.Join(args, " "), err, out, problems)
	}
	return strings.TrimSpace(out)
}

// status is how far this peer got with a CID, by its own word.
func (p *testPeer) status(ctx context.Context, c api.Cid) (api.PinInfoShort, error) {
	global, err := p.rest.Status(ctx, c, true)
	if err != nil {
		return api.PinInfoShort{}, err
	}
	info, ok := global.PeerMap[p.id.String()]
	if !ok {
		return info, fmt.Errorf("%s says nothing of itself about %s", p.name, c)
	}
	return info, nil
}

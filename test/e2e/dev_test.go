//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/client"
)

// devProcess is a running `cluster-service dev`.
type devProcess struct {
	t      *testing.T
	temp   string // its TMPDIR
	cmd    *exec.Cmd
	stderr bytes.Buffer
	line   []byte // the first line that it printed
	peers  []devPeer
	done   chan struct{}
	exit   error
}

type devPeer struct {
	Name, ID, Dir, REST, Proxy string
}

// startDev runs dev --json and waits for its line. It needs the default ports.
func startDev(t *testing.T, temp string, args ...string) *devProcess {
	t.Helper()
	for k := range 3 {
		for _, port := range []int{9094, 9095, 9096, 9097, 4001} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+10*k))
			if err != nil {
				t.Skipf("dev uses the default ports, and one is in use: %v", err)
			}
			_ = l.Close()
		}
	}
	d := &devProcess{t: t, temp: temp, done: make(chan struct{})}
	d.cmd = exec.Command(serviceBin, append([]string{"dev", "--json"}, args...)...)
	d.cmd.Env = []string{"HOME=" + temp, "TMPDIR=" + temp, "PATH=" + os.Getenv("PATH")}
	d.cmd.Stderr = &d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan []byte, 16)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			lines <- bytes.Clone(scanner.Bytes())
		}
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.done
	})
	select {
	case d.line = <-lines:
	case <-time.After(startTime):
	}
	go func() {
		for range lines { // Wait closes the pipe, so all of it is read before
		}
		d.exit = d.cmd.Wait()
		close(d.done)
	}()
	var ready struct{ Peers []devPeer }
	if err := json.Unmarshal(d.line, &ready); err != nil || len(ready.Peers) == 0 {
		_ = d.cmd.Process.Kill()
		<-d.done
		t.Fatalf("the line of dev: %q %v\n%s", d.line, err, d.stderr.String())
	}
	d.peers = ready.Peers
	return d
}

// interrupt is ^C; it returns how dev ended.
func (d *devProcess) interrupt() error {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
	select {
	case <-d.done:
		return d.exit
	case <-time.After(30 * time.Second):
		d.t.Fatalf("dev did not end within 30 s of ^C\n%s", d.stderr.String())
		return nil
	}
}

func (d *devProcess) client(k int) *client.Client {
	d.t.Helper()
	c, err := client.New(client.Config{Addrs: []string{d.peers[k].REST}, Timeout: 20 * time.Second})
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func TestDev(t *testing.T) {
	temp := t.TempDir()
	begun := time.Now()
	d := startDev(t, temp)
	t.Logf("ready in %s", time.Since(begun).Round(time.Millisecond))
	if len(d.peers) != 3 {
		t.Fatalf("dev runs %d peers: %s", len(d.peers), d.line)
	}
	for k, p := range d.peers {
		if want := loopback(9094 + 10*k); p.REST != want {
			t.Errorf("%s serves REST at %s, not %s", p.Name, p.REST, want)
		}
		if !strings.HasPrefix(p.Dir, temp) {
			t.Errorf("%s keeps its data in %s", p.Name, p.Dir)
		}
	}
	params := api.NewAddParams()
	added := &testPeer{t: t, rest: d.client(0)}
	root, err := added.addBytes(t.Context(), []byte("dev"), params)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.client(2).WaitFor(t.Context(), root, api.StatusPinned, 2, 100*time.Millisecond); err != nil {
		t.Error(err)
	}
	d.onlyLoopback()
	if err := d.interrupt(); err != nil {
		t.Errorf("dev ended with %v after ^C\n%s", err, d.stderr.String())
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("dev left %v %v", left, err)
	}
}

// onlyLoopback checks every socket of the process.
func (d *devProcess) onlyLoopback() {
	d.t.Helper()
	inodes := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	sockets := 0
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", d.cmd.Process.Pid, table))
		if err != nil {
			d.t.Fatal(err)
		}
		for _, line := range strings.Split(string(data), "\n")[1:] {
			fields := strings.Fields(line)
			if len(fields) < 10 || !inodes[fields[9]] {
				continue
			}
			sockets++
			if ip := procIP(fields[1]); ip == nil || !ip.IsLoopback() {
				d.t.Errorf("a %s socket of dev is bound to %s, to %s", table, ip, procIP(fields[2]))
			}
		}
	}
	if sockets < 15 {
		d.t.Errorf("only %d sockets were found, and dev listens on 15 ports", sockets)
	}
}

// procIP reads an address of /proc/net: words of 32 bits in the byte order of
// the machine, which is little-endian here.
func procIP(text string) net.IP {
	host, _, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return nil
	}
	for i := 0; i < len(raw); i += 4 {
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	return net.IP(raw)
}

// With --dir the next run goes on where the last one ended, be that ^C or
// kill -9.
func TestDevResumes(t *testing.T) {
	temp, dir := t.TempDir(), filepath.Join(t.TempDir(), "data")
	var pinned []api.Cid
	var ids []string
	for round := range 3 {
		d := startDev(t, temp, "--dir", dir)
		for k, p := range d.peers {
			if round == 0 {
				ids = append(ids, p.ID)
			} else if p.ID != ids[k] {
				t.Errorf("round %d: %s was %s and is %s", round, p.Name, ids[k], p.ID)
			}
		}
		for k, p := range d.peers { // "ready" is said when every peer is
			if _, err := d.client(k).ID(t.Context()); err != nil {
				t.Errorf("round %d: %s: %v", round, p.Name, err)
			}
		}
		for _, c := range pinned {
			if _, err := d.client(round).Allocation(t.Context(), c); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		c := rawCid(t, 1, uint64(round))
		if _, err := d.client(round).Pin(t.Context(), c, api.PinOptions{}); err != nil {
			t.Fatal(err)
		}
		pinned = append(pinned, c)
		if round == 0 {
			_ = d.cmd.Process.Kill()
			<-d.done
		} else if err := d.interrupt(); err != nil {
			t.Errorf("dev ended with %v\n%s", err, d.stderr.String())
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

// A busy port is named, and nothing is left.
func TestDevBusyPort(t *testing.T) {
	for _, port := range []int{9105, 4021, 9116} {
		temp := t.TempDir()
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Skip(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), startTime)
		cmd := exec.CommandContext(ctx, serviceBin, "dev")
		cmd.Env = []string{"HOME=" + temp, "TMPDIR=" + temp}
		out, err := cmd.CombinedOutput()
		cancel()
		if exitCode(err) != 1 || !strings.Contains(string(out), fmt.Sprint(port)) || strings.Contains(string(out), "Ready.") {
			t.Errorf("port %d is busy: %v\n%s", port, err, out)
		}
		if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
			t.Errorf("dev left %v", left)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The number of peers is checked; one peer is a cluster, too.
func TestDevPeers(t *testing.T) {
	for _, n := range []string{"0", "10", "many"} {
		out, err := exec.CommandContext(t.Context(), serviceBin, "dev", "--peers", n).CombinedOutput()
		if exitCode(err) != 1 || !strings.Contains(string(out), "peers") {
			t.Errorf("--peers %s: %v\n%s", n, err, out)
		}
	}
	d := startDev(t, t.TempDir(), "--peers", "1")
	if _, err := d.client(0).Pin(t.Context(), rawCid(t, 1, 1), api.PinOptions{}); err != nil {
		t.Error(err)
	}
	response, err := http.Get("http://127.0.0.1:9104/id")
	if err == nil {
		response.Body.Close()
		t.Error("a second peer runs")
	}
	if err := d.interrupt(); err != nil {
		t.Error(err)
	}
}

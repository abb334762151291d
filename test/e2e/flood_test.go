//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"holdfast/api"
)

// TestIdleConnections: 400 clients without credentials on each listener, which
// send nothing, while the process may open 256 files. It goes on writing.
func TestIdleConnections(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	p.files = 256
	p.mustService("init", "--private")
	p.startReady()
	for _, port := range []int{p.ports.rest, p.ports.proxy, p.ports.pinsvc, p.ports.gateway, p.ports.cluster, p.ports.swarm} {
		for range 400 {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
	}
	for n := range uint64(200) {
		eventually(t, 30*time.Second, "a pin is acknowledged", func(ctx context.Context) error {
			if !p.running() {
				t.Fatalf("the peer ended: %v\n%s", p.exit, tail(p.logAt, 20))
			}
			_, err := p.rest.Pin(ctx, rawCid(t, 77, n), api.PinOptions{})
			return err
		})
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil || len(open) > 230 {
		t.Errorf("%d files are open, %v", len(open), err)
	}
	if lines := p.logLines("too many open files"); len(lines) > 0 {
		t.Errorf("a limit was met: %v", lines)
	}
	if _, err := p.stop(30 * time.Second); err != nil {
		t.Error(err)
	}
	p.files = 200
	p.start()
	<-p.done
	if lines := p.logLines("LimitNOFILE"); p.exit == nil || len(lines) == 0 {
		t.Errorf("a limit that is too low: %v\n%s", p.exit, tail(p.logAt, 5))
	}
}

// TestHangup: SIGHUP reloads the users, and the peer runs on.
func TestHangup(t *testing.T) {
	base := workDir(t)
	file := filepath.Join(base, "users")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ann:first\n")
	p := newPeer(t, base, "peer0", map[string]string{"CLUSTER_HTTP_USERS_FILE": file})
	p.mustService("init", "--private")
	p.start()
	status := func(ctx context.Context, password string) (int, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/id", p.ports.rest), nil)
		if err != nil {
			return 0, err
		}
		r.SetBasicAuth("ann", password)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	becomes := func(what, password string, want int) {
		t.Helper()
		eventually(t, startTime, what, func(ctx context.Context) error {
			if !p.running() {
				t.Fatalf("the peer ended: %v\n%s", p.exit, tail(p.logAt, 20))
			}
			if got, err := status(ctx, password); err != nil || got != want {
				return errors.Join(fmt.Errorf("answered %d", got), err)
			}
			return nil
		})
	}
	becomes("the first password works", "first", http.StatusOK)
	write("ann:second\n")
	p.signal(syscall.SIGHUP)
	becomes("the second password works", "second", http.StatusOK)
	write("nonsense\n")
	p.signal(syscall.SIGHUP)
	eventually(t, startTime, "the log tells of users that cannot be read", func(context.Context) error {
		if len(p.logLines("were not reloaded")) == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	becomes("the second password still works", "second", http.StatusOK)
}

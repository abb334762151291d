//go:build e2e

package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/client"
)

// project keeps the test apart from a deployment that may run on this machine;
// the ports are the same, so both cannot run at once.
const project = "holdfast-test"

// deployment is the running project.
type deployment struct {
	t    *testing.T
	env  []string // of docker compose
	user string   // user:password of the HTTP APIs
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, env: []string{"DOCKER_BUILDKIT=1", "COMPOSE_BAKE=false", "HOLDFAST_TAG=test", "COMMIT=first"}}
	remove := func(ctx context.Context) {
		if out, err := d.compose(ctx, "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	remove(t.Context()) // what a test that was cut off has left
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := d.compose(context.Background(), "--profile", "*", "logs", "--tail", "15")
			t.Logf("%s", logs)
		}
		remove(context.Background())
	})
	return d
}

// compose runs docker compose on the project.
func (d *deployment) compose(ctx context.Context, args ...string) (string, error) {
	full := append(append([]string{}, composeCommand[1:]...), "--project-name", project, "--progress", "quiet")
	return command(ctx, root, d.env, composeCommand[0], append(full, args...)...)
}

// must runs docker compose within a limit and logs how long it took.
func (d *deployment) must(limit time.Duration, args ...string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), limit)
	defer cancel()
	begun := time.Now()
	out, err := d.compose(ctx, args...)
	if err != nil {
		d.t.Fatalf("docker compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	d.t.Logf("%6.1f s  docker compose %s", time.Since(begun).Seconds(), strings.Join(args, " "))
	return out
}

// docker runs the engine's command.
func (d *deployment) docker(args ...string) string {
	d.t.Helper()
	out, err := command(d.t.Context(), "", nil, "docker", args...)
	if err != nil {
		d.t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

// ctl runs cluster-ctl inside a peer's container.
func (d *deployment) ctl(ctx context.Context, name string, args ...string) (string, error) {
	return command(ctx, "", nil, "docker", append([]string{"exec", container(name), "cluster-ctl"}, args...)...)
}

func container(name string) string { return project + "-" + name + "-1" }

// port is where a peer's port is published on this machine's loopback.
func port(name string, base int) int { return base + 10*int(name[len(name)-1]-'0') }

// rest asks a peer's REST API from outside of its container.
func (d *deployment) rest(name string) *client.Client {
	d.t.Helper()
	user, password, _ := strings.Cut(d.user, ":")
	c, err := client.New(client.Config{Addrs: []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port(name, 9094))},
		User: user, Password: password, Timeout: 20 * time.Second})
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// fetch reads a CID through a peer's proxy, whether it holds it or not. The
// gateway would serve only what the peer has itself.
func (d *deployment) fetch(ctx context.Context, name, cid string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/v0/cat?arg=%s", port(name, 9095), cid), nil)
	if err != nil {
		return nil, 0, err
	}
	if user, password, ok := strings.Cut(d.user, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return data, resp.StatusCode, err
}

// whole waits until each of the peers sees all of them up and one leader, and
// returns the leader's name.
func (d *deployment) whole(limit time.Duration, names ...string) string {
	d.t.Helper()
	leader := ""
	d.eventually(limit, "one cluster of "+strings.Join(names, ", "), func(ctx context.Context) error {
		for _, name := range names {
			up, leaders := 0, 0
			for id, err := range d.rest(name).Peers(ctx) {
				if err != nil {
					return fmt.Errorf("ask %s: %w", name, err)
				}
				if id.State == api.PeerUp && id.Error == "" {
					up++
				}
				if id.Role == "leader" {
					leader, leaders = id.PeerName, leaders+1
				}
			}
			if up < len(names) || leaders != 1 {
				return fmt.Errorf("%s sees %d of %d peers up, and %d leaders", name, up, len(names), leaders)
			}
		}
		return nil
	})
	return leader
}

// pinsets waits until the peers have one pinset, and returns it as text.
func (d *deployment) pinsets(limit time.Duration, names ...string) string {
	d.t.Helper()
	common := ""
	d.eventually(limit, "the same pinset on "+strings.Join(names, ", "), func(ctx context.Context) error {
		common = ""
		for _, name := range names {
			var all strings.Builder
			for pin, err := range d.rest(name).Allocations(ctx, api.PinFilter{}) {
				if err != nil {
					return fmt.Errorf("ask %s: %w", name, err)
				}
				text, err := json.Marshal(pin)
				if err != nil {
					return err
				}
				all.Write(append(text, '\n'))
			}
			if common == "" {
				common = all.String()
			} else if common != all.String() {
				return fmt.Errorf("%s has another pinset than %s:\n%s\n%s", name, names[0], all.String(), common)
			}
		}
		return nil
	})
	return common
}

// holders are the names of the peers that say they hold all of a CID.
func (d *deployment) holders(ctx context.Context, ask string, cid api.Cid) ([]string, error) {
	status, err := d.rest(ask).Status(ctx, cid, false)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, info := range status.PeerMap {
		if info.Status == api.StatusPinned {
			out = append(out, info.PeerName)
		}
	}
	return out, nil
}

// eventually asks check until it returns nil.
func (d *deployment) eventually(limit time.Duration, what string, check func(ctx context.Context) error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			if took := time.Since(begun); took > time.Second {
				d.t.Logf("%6.1f s  until %s", took.Seconds(), what)
			}
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.t.Fatalf("%s: not within %s: %v", what, limit, last)
		}
	}
}

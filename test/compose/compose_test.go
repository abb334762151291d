//go:build e2e

package compose

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

const (
	upTime     = 3 * time.Minute // a start on a busy machine
	settleTime = time.Minute
	buildTime  = 25 * time.Minute // all of Kubo, the first time
)

var (
	three = []string{"peer0", "peer1", "peer2"}
	five  = append(slices.Clone(three), "peer3", "peer4")
)

// content is what has been added: bytes by CID.
type content map[string][]byte

// TestDeployment goes through the life of one deployment, step after step.
func TestDeployment(t *testing.T) {
	d := newDeployment(t)
	kept := content{}
	steps := []struct {
		name string
		run  func(*deployment, content)
	}{
		{"build", build},
		{"up", up},
		{"safe defaults", safe},
		{"secrets", secrets},
		{"add and read elsewhere", addAndRead},
		{"cut off the leader", cutOff},
		{"kill and repair", killAndRepair},
		{"restart all", restartAll},
		{"five", scale},
		{"new image", upgrade},
		{"down and up", downAndUp},
		{"replace the founder", replaceFounder},
	}
	for _, step := range steps {
		if !t.Run(step.name, func(t *testing.T) {
			step.run(&deployment{t: t, env: d.env, user: d.user}, kept)
		}) {
			t.Fatalf("%s failed, and the later steps need it", step.name)
		}
		if d.user == "" && step.name == "up" {
			d.user = d.docker("exec", container("peer0"), "cluster-service", "secret", "show", "http_users")
		}
		if step.name == "five" {
			d.env = append(d.env, "COMPOSE_PROFILES=five")
		}
		if step.name == "new image" {
			d.env = append(d.env, "HOLDFAST_TAG=test-next", "COMMIT=second")
		}
	}
}

func build(d *deployment, _ content) {
	d.must(buildTime, "build")
	d.must(buildTime, "build") // nothing to do
	d.t.Logf("the image has %s", d.docker("image", "inspect", "--format", "{{.Size}} bytes", "holdfast:test"))
}

func up(d *deployment, _ content) {
	d.must(upTime, "up", "-d", "--wait")
	out, err := d.ctl(d.t.Context(), "peer0", "peers", "ls")
	if err != nil {
		d.t.Fatal(out, err)
	}
	for _, name := range three {
		if !strings.Contains(out, "| "+name+" |") {
			d.t.Errorf("up --wait returned and %s is no member:\n%s", name, out)
		}
	}
}

// safe checks what nobody shall have to check.
func safe(d *deployment, _ content) {
	for _, name := range three {
		for what, want := range map[string]string{
			"{{.HostConfig.ReadonlyRootfs}}": "true",
			"{{.Config.User}}":               "65532:65532",
			"{{.HostConfig.CapDrop}}":        "[ALL]",
			"{{.HostConfig.Memory}}":         "2147483648",
			"{{range .HostConfig.PortBindings}}{{range .}}{{if ne .HostIp \"127.0.0.1\"}}open{{end}}{{end}}{{end}}": "",
		} {
			if got := d.docker("inspect", "--format", what, container(name)); got != want {
				d.t.Errorf("%s: %s is %q, want %q", name, what, got, want)
			}
		}
		for _, base := range []int{9094, 9095, 9097, 8080} {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/pins", port(name, base)))
			if err != nil {
				d.t.Error(err)
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				d.t.Errorf("port %d of %s answers %s without credentials", base, name, resp.Status)
			}
		}
	}
	limit := d.docker("logs", container("peer0"))
	if logs, err := command(d.t.Context(), "", nil, "sh", "-c", "docker logs "+container("peer0")+" 2>&1"); err != nil || !strings.Contains(logs, "keeping within the memory limit") {
		d.t.Errorf("the peer does not know its memory limit (%v): %s", err, limit)
	}
}

// secrets starts peers that were given none, or the wrong one.
func secrets(d *deployment, _ content) {
	peer := []string{"run", "--rm", "--network", project + "_default", "-e", "CLUSTER_INIT=true", "-e", "CLUSTER_JOIN=/dns4/peer0/tcp/9096"}
	for want, args := range map[string][]string{
		"CLUSTER_SECRET_FILE":                               nil,
		"64 hexadecimal digits":                             {"-e", "CLUSTER_SECRET=secret"},
		"is the deployment secret of this peer another one": {"-e", "CLUSTER_SECRET=" + strings.Repeat("ab", 32)},
	} {
		ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
		out, err := command(ctx, "", nil, "docker", append(append(slices.Clone(peer), args...), "holdfast:test", "daemon")...)
		cancel()
		if err == nil || !strings.Contains(out, want) {
			d.t.Errorf("a peer with %q: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	d.whole(settleTime, three...)
}

// add adds random bytes through a peer's container and returns their CID.
func (d *deployment) add(name string, kept content, seed uint64, size int, flags ...string) string {
	d.t.Helper()
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	path := filepath.Join(d.t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), upTime)
	defer cancel()
	script := `docker exec -i ` + container(name) + ` cluster-ctl add --wait -Q ` + strings.Join(flags, " ") + ` - < ` + path
	out, err := command(ctx, "", nil, "sh", "-c", script)
	if err != nil {
		d.t.Fatalf("add through %s: %v\n%s", name, err, out)
	}
	cid := strings.TrimSpace(out)
	kept[cid] = data
	return cid
}

// intact reads everything that was ever added through each of the peers.
func (d *deployment) intact(kept content, names ...string) {
	d.t.Helper()
	for cid, want := range kept {
		for _, name := range names {
			d.eventually(settleTime, name+" serves "+cid, func(ctx context.Context) error {
				got, status, err := d.fetch(ctx, name, cid)
				if err != nil {
					return err
				}
				if status != http.StatusOK || !bytes.Equal(got, want) {
					return fmt.Errorf("status %d, %d bytes with hash %x, want %d bytes", status, len(got), sha256.Sum256(got), len(want))
				}
				return nil
			})
		}
	}
}

func addAndRead(d *deployment, kept content) {
	d.add("peer1", kept, 1, 8<<20)
	d.add("peer2", kept, 2, 1<<20, "--replication", "2")
	d.intact(kept, three...)
	d.pinsets(settleTime, three...)
}

// cutOff takes the leader off the network: the others go on, and it refuses.
func cutOff(d *deployment, kept content) {
	old := d.whole(settleTime, three...)
	rest := slices.DeleteFunc(slices.Clone(three), func(name string) bool { return name == old })
	network := project + "_default"
	d.docker("network", "disconnect", network, container(old))
	begun := time.Now()
	d.eventually(30*time.Second, "a write without "+old, func(ctx context.Context) error {
		_, err := d.rest(rest[0]).Pin(ctx, anyCid(kept), api.PinOptions{Name: "while the leader was away"})
		return err
	})
	d.t.Logf("the others wrote %s after the cut", time.Since(begun).Round(100*time.Millisecond))
	ctx, cancel := context.WithTimeout(d.t.Context(), settleTime)
	defer cancel()
	if out, err := d.ctl(ctx, old, "pin", "add", "--name", "behind the others' backs", anyCid(kept).String()); err == nil {
		d.t.Errorf("the old leader accepted a write while it was cut off: %s", out)
	} else if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		d.t.Errorf("the old leader neither accepts nor refuses a write: %s", out)
	}
	d.docker("network", "connect", "--alias", old, network, container(old))
	d.whole(settleTime, three...)
	if pins := d.pinsets(settleTime, three...); !strings.Contains(pins, "while the leader was away") || strings.Contains(pins, "backs") {
		d.t.Errorf("the pinset is not what was accepted:\n%s", pins)
	}
	d.intact(kept, three...)
}

func anyCid(kept content) api.Cid {
	var all []string
	for cid := range kept {
		all = append(all, cid)
	}
	slices.Sort(all)
	cid, err := api.DecodeCid(all[0])
	if err != nil {
		panic(err)
	}
	return cid
}

// killAndRepair kills a holder of a pin that must have two replicas.
func killAndRepair(d *deployment, kept content) {
	text := d.add("peer0", kept, 3, 4<<20, "--replication", "2")
	cid, err := api.DecodeCid(text)
	if err != nil {
		d.t.Fatal(err)
	}
	before, err := d.holders(d.t.Context(), "peer0", cid)
	if err != nil || len(before) != 2 {
		d.t.Fatalf("held by %v: %v", before, err)
	}
	dead := before[0]
	alive := slices.DeleteFunc(slices.Clone(three), func(name string) bool { return name == dead })
	d.docker("kill", "--signal", "KILL", container(dead))
	d.eventually(2*time.Minute, "two live replicas again", func(ctx context.Context) error {
		now, err := d.holders(ctx, alive[0], cid)
		if err != nil {
			return err
		}
		if !slices.Contains(now, alive[0]) || !slices.Contains(now, alive[1]) {
			return fmt.Errorf("held by %v, and %s is dead", now, dead)
		}
		return nil
	})
	d.docker("start", container(dead))
	d.whole(settleTime, three...)
	d.intact(kept, three...)
}

func restartAll(d *deployment, kept content) {
	before := d.pinsets(settleTime, three...)
	d.must(upTime, "restart")
	d.must(upTime, "up", "-d", "--wait")
	d.same(before, kept, three...)
}

// same checks that nothing was lost.
func (d *deployment) same(pinset string, kept content, names ...string) {
	d.t.Helper()
	d.whole(settleTime, names...)
	if now := d.pinsets(settleTime, names...); now != pinset {
		d.t.Errorf("the pinset was\n%s\nand is\n%s", pinset, now)
	}
	d.intact(kept, names...)
}

func scale(d *deployment, kept content) {
	before := d.pinsets(settleTime, three...)
	d.must(upTime, "--profile", "five", "up", "-d", "--wait")
	d.same(before, kept, five...)
	d.add("peer4", kept, 4, 1<<20, "--replication", "5")
}

// upgrade replaces the image one peer at a time, while pins are accepted.
func upgrade(d *deployment, kept content) {
	d.env = append(slices.Clone(d.env), "HOLDFAST_TAG=test-next", "COMMIT=second")
	d.must(buildTime, "build") // compiles what the new commit changes
	for i, name := range five {
		d.must(upTime, "up", "-d", "--wait", "--no-deps", name)
		d.whole(settleTime, five...)
		d.add(five[(i+1)%len(five)], kept, uint64(100+i), 1<<16)
		if v, err := d.rest(name).Version(d.t.Context()); err != nil || v.Commit != "second" {
			d.t.Errorf("%s runs %+v after its upgrade (%v)", name, v, err)
		}
	}
	d.intact(kept, five...)
	d.pinsets(settleTime, five...)
}

func downAndUp(d *deployment, kept content) {
	before := d.pinsets(settleTime, five...)
	volumes := d.docker("volume", "ls", "--quiet")
	d.must(upTime, "down")
	d.must(upTime, "up", "-d", "--wait")
	if now := d.docker("volume", "ls", "--quiet"); now != volumes {
		d.t.Errorf("there were the volumes\n%s\nand are\n%s", volumes, now)
	}
	d.same(before, kept, five...)
}

// replaceFounder loses the volume of the peer that once founded the cluster: it
// joins the others instead of founding another one.
func replaceFounder(d *deployment, kept content) {
	old, err := d.rest("peer0").ID(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	d.must(upTime, "rm", "--stop", "--force", "peer0")
	d.docker("volume", "rm", project+"_peer0")
	d.must(upTime, "up", "-d", "--wait", "peer0")
	d.whole(settleTime, five...)
	renewed, err := d.rest("peer0").ID(d.t.Context())
	if err != nil || renewed.ID == old.ID {
		d.t.Fatalf("peer0 was %s and is %s (%v)", old.ID, renewed.ID, err)
	}
	if err := d.rest("peer1").RemovePeer(d.t.Context(), api.RemoveRequest{Peer: old.ID}); err != nil {
		d.t.Errorf("remove the lost peer: %v", err)
	}
	d.pinsets(settleTime, five...)
	d.intact(kept, five...)
}

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// floodSize is how many connections a flood opens to each listener, of a peer that
// may have fewer files open than they come to.
const (
	floodSize   = 200
	floodNofile = 1024
)

// damage is a place of a peer's disk that reads wrong for a while.
type damage struct {
	peer         *testPeer
	path         string
	at           int64
	right, wrong []byte
}

// damageDisk makes a bit or a sector of a peer's files wrong, while it does not
// run, or returns nil if there is nothing to damage.
func (p *testPeer) damageDisk(random *rand.Rand) *damage {
	p.t.Helper()
	var files []string
	folder := []string{"state", "raft", "ipfs"}[random.IntN(3)]
	_ = filepath.WalkDir(filepath.Join(p.dir, folder), func(path string, entry fs.DirEntry, err error) error {
		name := filepath.Base(path)
		table := strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob") || strings.HasPrefix(name, "MANIFEST")
		if err == nil && entry.Type().IsRegular() && (table || folder == "raft" && strings.HasSuffix(name, ".wal") || name == "vote.json" || name == "meta.json" || name == "CURRENT") {
			files = append(files, path)
		}
		return nil
	})
	if len(files) == 0 {
		return nil
	}
	d := &damage{peer: p, path: files[random.IntN(len(files))]}
	data, err := os.ReadFile(d.path)
	if err != nil {
		p.t.Fatal(err)
	}
	used := int64(len(bytes.TrimRight(data, "\x00"))) // of a file that was made larger ahead
	if used == 0 {
		return nil
	}
	d.at = random.Int64N(used)
	size := int64(1)
	sector := random.IntN(2) == 0
	if sector {
		d.at = d.at / 512 * 512
		size = min(512, used-d.at)
	}
	d.right = bytes.Clone(data[d.at : d.at+size])
	d.wrong = bytes.Clone(d.right)
	if sector {
		clear(d.wrong)
	} else {
		d.wrong[0] ^= 1 << random.IntN(8)
	}
	d.write(d.wrong)
	return d
}

func (d *damage) String() string {
	what := "a bit"
	if len(d.wrong) > 1 {
		what = "a sector"
	}
	return fmt.Sprintf("%s of %s's %s at %d", what, d.peer.name, strings.TrimPrefix(d.path, d.peer.dir+"/"), d.at)
}

func (d *damage) write(data []byte) {
	d.peer.t.Helper()
	f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
	if err != nil {
		d.peer.t.Fatal(err)
	}
	_, err = f.WriteAt(data, d.at)
	if err != nil {
		d.peer.t.Error(err)
	}
	if err := f.Close(); err != nil {
		d.peer.t.Error(err)
	}
}

// saysWhy is what a peer that stops because of its disk says.
var saysWhy = regexp.MustCompile(`(?i)damaged|corrupt|checksum|do not belong together|entries between are missing|cannot be read|manifest|invalid`)

// heal lets the disk read right again, as far as the peer has not written anew
// there, and leaves the peer running. What made the peer stop, it must have said.
func (d *damage) heal() {
	t := d.peer.t
	t.Helper()
	if d.peer.running() {
		d.peer.kill()
	} else if said := tail(d.peer.logAt, 6); !saysWhy.MatchString(said) {
		t.Errorf("%s ended with %v after %s was damaged, and did not say so:\n%s", d.peer.name, d.peer.exit, d, said)
	}
	if data, err := os.ReadFile(d.path); err == nil && int64(len(data)) >= d.at+int64(len(d.wrong)) && bytes.Equal(data[d.at:d.at+int64(len(d.wrong))], d.wrong) {
		d.write(d.right)
	}
	d.peer.start()
}

// flood opens idle connections to every listener of a peer, for a while.
func (p *testPeer) flood(ctx context.Context, length time.Duration) (opened int) {
	var conns []net.Conn
	dialer := net.Dialer{Timeout: 200 * time.Millisecond}
	for _, port := range []int{p.ports.rest, p.ports.proxy, p.ports.pinsvc, p.ports.gateway, p.ports.swarm, p.ports.cluster} {
		for range floodSize {
			conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				break // refused: so much the better
			}
			conns = append(conns, conn)
		}
	}
	pause(ctx, length)
	for _, conn := range conns {
		_ = conn.Close()
	}
	return len(conns)
}

// readBack reads an acknowledged file through any peer: who answers, answers with
// what was written.
func (u *spreadUploads) readBack(ctx context.Context, random *rand.Rand) {
	if len(u.fresh) == 0 {
		return
	}
	c := u.fresh[random.IntN(len(u.fresh))]
	p := u.peers[random.IntN(len(u.peers))]
	got, err := p.cat(ctx, c)
	if err == nil && !bytes.Equal(got, u.acked[c]) {
		p.t.Errorf("INV-BYTES: the file %s of %d bytes came back from %s as %d others", c, len(u.acked[c]), p.name, len(got))
	}
}

// TestFlood: hundreds of idle connections to every listener of a peer that may
// open few files do not end it, and it takes writes again.
func TestFlood(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	p.files = floodNofile
	p.mustService("init", "--private")
	p.startReady()
	t.Logf("%d connections were opened", p.flood(t.Context(), 2*time.Second))
	if !p.running() {
		t.Fatalf("it ended: %v\n%s", p.exit, tail(p.logAt, 10))
	}
	eventually(t, 30*time.Second, "a write", func(ctx context.Context) error {
		status, err := p.write(ctx, "POST", "/pins/"+rawCid(t, 1, 1).String(), "key")
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

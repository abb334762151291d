package consensus

import (
	"flag"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/state"
)

var update = flag.Bool("update", false, "rewrite the golden files; read the difference before committing it")

func openPinset(t *testing.T, fs vfs.FS, dir string) *state.Pinset {
	t.Helper()
	p, err := state.Open(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func hashOf(t *testing.T, p *state.Pinset) string {
	t.Helper()
	hash, _, err := p.Hash()
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// goldenPinset is the pinset of the golden snapshot. It must not change.
func goldenPinset(t *testing.T, fs vfs.FS, dir string) *state.Pinset {
	t.Helper()
	digest := func(text string) multihash.Multihash {
		sum, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	p := openPinset(t, fs, dir)
	at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	member := api.Member{ID: peer.ID(digest("peer")), Name: "peer", JoinedAt: at}
	commands := [][]byte{state.InitClusterCommand{ClusterID: "golden", Member: member}.Encode()}
	for _, name := range []string{"one", "two", "three"} {
		commands = append(commands, state.PinCommand{At: at, RequestID: name, Pin: api.Pin{Cid: api.NewCid(cid.NewCidV1(cid.Raw, digest(name))),
			Type: api.TypeData, MaxDepth: -1, Allocations: []peer.ID{member.ID}, PinOptions: api.PinOptions{Name: name, Mode: api.ModeRecursive,
				ReplicationFactorMin: 1, ReplicationFactorMax: 2, Metadata: map[string]string{"k": name}}}}.Encode())
	}
	for i, command := range commands {
		if _, err := p.Apply(uint64(i+2), [][]byte{command}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// goldenStream is a snapshot of it as it travels today.
func goldenStream(t *testing.T) []byte {
	t.Helper()
	fs := vfs.NewMem()
	s := openSnapshots(t, fs)
	id, err := takeSnapshot(s, goldenPinset(t, fs, "pinset"), 7)
	if err != nil {
		t.Fatal(err)
	}
	_, reader, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	stream, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

package state_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/state"
)

var update = flag.Bool("update", false, "rewrite the golden files; read the difference before committing it")

// goldenCommands has one of everything that a command can carry.
func goldenCommands() []struct {
	name    string
	command command
} {
	full := testPin(1, testPeer(1), testPeer(2))
	full.Type, full.Mode, full.MaxDepth = api.TypeShard, api.ModeDirect, 0
	full.ShardSize = 1 << 20
	full.Timestamp, full.ExpireAt = epoch.Add(-time.Hour), epoch.Add(time.Hour)
	full.Metadata = map[string]string{"z": "last", "a": "first", "not utf-8": "\xff"}
	full.PinUpdate = api.NewCid(testCid(5))
	full.Origins = []multiaddr.Multiaddr{multiaddr.StringCast("/dns4/example.com/tcp/4001/p2p/" + testPeer(7).String())}
	all := testPin(3)
	all.ReplicationFactorMin, all.ReplicationFactorMax = -1, -1
	token := sha256.Sum256([]byte("token"))
	return []struct {
		name    string
		command command
	}{
		{"init-cluster", state.InitClusterCommand{ClusterID: "a cluster", Member: testMember(1)}},
		{"create-token", state.CreateTokenCommand{Hash: token, ExpiresAt: epoch.Add(time.Hour)}},
		{"join", state.JoinCommand{Hash: token, At: epoch, Member: testMember(2)}},
		{"join-used-token", state.JoinCommand{Hash: token, At: epoch, Member: testMember(3)}},
		{"put-member", state.PutMemberCommand{Member: api.Member{ID: testPeer(2), Name: "renamed"}}},
		{"pin-full", state.PinCommand{Pin: full, At: epoch, RequestID: "request 1"}},
		{"pin-small", state.PinCommand{Pin: testPin(2, testPeer(2)), At: epoch}},
		{"pin-everywhere", state.PinCommand{Pin: all, At: epoch, RequestID: "request 2"}},
		{"pin-again", state.PinCommand{Pin: testPin(2, testPeer(1)), Expect: 7, At: epoch.Add(time.Second), RequestID: "request 3"}},
		{"pin-conflict", state.PinCommand{Pin: testPin(2, testPeer(3)), Expect: 7, At: epoch, RequestID: "request 4"}},
		{"pin-repeated", state.PinCommand{Pin: testPin(2, testPeer(1)), Expect: 7, At: epoch, RequestID: "request 3"}},
		{"pin-old", state.PinCommand{Pin: testPin(6, testPeer(1)), At: epoch}},
		{"unpin", state.UnpinCommand{Cid: testCid(6), Expect: 12, At: epoch, RequestID: "request 5"}},
		{"unpin-nothing", state.UnpinCommand{Cid: testCid(6), At: epoch, RequestID: "request 6"}},
		{"set-role", state.SetRoleCommand{ID: testPeer(2), Role: api.RoleLearner}},
		{"raise-version", state.RaiseVersionCommand{Version: 2}},
		{"create-token-reusable", state.CreateTokenCommand{Hash: sha256.Sum256([]byte("deployment")), ExpiresAt: epoch.Add(time.Hour), Reusable: true}},
		{"remove-member", state.RemoveMemberCommand{ID: testPeer(2)}},
	}
}

// golden compares lines with a file, or writes them with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

// TestGoldenCommands: what is in the log of a cluster must be read for ever
// as it was meant. A new version gets a file of its own; the old ones stay.
func TestGoldenCommands(t *testing.T) {
	var text strings.Builder
	for _, c := range goldenCommands() {
		fmt.Fprintf(&text, "%s %x\n", c.name, c.command.Encode())
	}
	golden(t, "commands.v1", text.String())
}

// TestGoldenState applies the commands from the file and compares every key
// and value, and what the commands came to.
func TestGoldenState(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "commands.v1"))
	if err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewMem()
	p := open(t, fs, "pinset")
	var text strings.Builder
	index := uint64(0)
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		name, encoded, _ := strings.Cut(lines.Text(), " ")
		command, err := hex.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		index++
		result := apply(t, p, index, command)[0]
		fmt.Fprintf(&text, "%d %s: %q at %d, repeat %v\n", index, name, code(result.Err), result.Index, result.Repeat)
		if result.Pin.Cid.Defined() {
			fmt.Fprintln(&text, "  ", goldenPin(result.Pin))
		}
	}
	for _, pin := range list(t, p, api.PinFilter{}) {
		fmt.Fprintln(&text, "pin", goldenPin(pin))
	}
	hash := mustHash(t, p)
	fmt.Fprintf(&text, "hash %s\n", hash)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open("pinset/db-000001", &pebble.Options{FS: fs, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		fmt.Fprintf(&text, "%c %x = %x\n", it.Key()[0], it.Key()[1:], it.Value())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "state.v1", text.String())
}

func goldenPin(p api.Pin) string {
	return fmt.Sprintf("%s revision %d type %s mode %s name %q factors %d %d allocations %s origins %s metadata %q update %q shard %d at %s expires %s",
		p.Cid, p.Revision, p.Type, p.Mode, p.Name, p.ReplicationFactorMin, p.ReplicationFactorMax, p.Allocations, p.Origins, p.Metadata,
		p.PinUpdate, p.ShardSize, p.Timestamp.Format(time.RFC3339), p.ExpireAt.Format(time.RFC3339))
}

// TestNewerFormatIsRefused opens and restores what a newer program wrote.
func TestNewerFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	p := open(t, fs, "pinset")
	if err := p.Checkpoint("newer"); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"pinset/db-000001", "newer"} {
		db, err := pebble.Open(dir, &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatTableFormatV6})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Set([]byte("f"), []byte{0, 0, 0, 9}, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := state.Open(fs, "pinset")
	if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "format 9") || !strings.Contains(err.Error(), "up to 1") {
		t.Errorf("open: %v", err)
	}
	other := open(t, fs, "other")
	if err := other.Restore("newer"); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("restore: %v", err)
	}
	apply(t, other, 1, state.InitClusterCommand{ClusterID: "c", Member: testMember(1)}.Encode())
	if err := other.Restore("nothing"); err == nil || other.ClusterID() != "c" {
		t.Errorf("restore of a folder that is not there: %v", err)
	}
}

// TestFolderWithoutCurrentIsRefused: data must not vanish because a file did.
func TestFolderWithoutCurrentIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	if err := open(t, fs, "pinset").Close(); err != nil {
		t.Fatal(err)
	}
	if err := fs.Remove("pinset/CURRENT"); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(fs, "pinset"); err == nil {
		t.Error("a folder without CURRENT was taken for a new one")
	}
}

// TestBadCommandsAreFatal: nothing of an entry with one command that cannot be
// read is applied, and nothing after it.
func TestBadCommandsAreFatal(t *testing.T) {
	good := state.PinCommand{Pin: testPin(1, testPeer(1)), At: epoch}.Encode()
	for name, bad := range map[string][]byte{
		"empty":         {},
		"not protobuf":  []byte("garbage"),
		"version 2":     append([]byte{0x08, 2}, good[2:]...),
		"no operation":  {0x08, 1},
		"unknown op":    {0x08, 1, 0x9a, 0x06, 0x00},
		"unknown field": append(append([]byte{}, good...), 0x9a, 0x06, 0x00),
		"truncated":     good[:len(good)-1],
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, vfs.NewMem(), "pinset")
			if _, err := p.Apply(3, [][]byte{good, bad}); err == nil {
				t.Fatal("applied")
			}
			if p.Applied() != 0 || len(list(t, p, api.PinFilter{})) != 0 {
				t.Error("half of the entry was applied")
			}
			if _, err := p.Apply(4, [][]byte{good}); err == nil {
				t.Error("it goes on")
			}
		})
	}
}

// TestWhatNobodyCanMeanIsRefused: a fault of one peer must not stop them all.
func TestWhatNobodyCanMeanIsRefused(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	undefined, badPeer := testPin(1, testPeer(1)), testPin(1, peer.ID("x"))
	undefined.Cid = api.Cid{}
	badMember := api.Member{ID: "x"}
	token := sha256.Sum256(nil)
	for i, result := range apply(t, p, 1,
		state.PinCommand{Pin: undefined, At: epoch}.Encode(),
		state.PinCommand{Pin: badPeer, At: epoch}.Encode(),
		state.UnpinCommand{At: epoch}.Encode(),
		state.PutMemberCommand{Member: badMember}.Encode(),
		state.RemoveMemberCommand{}.Encode(),
		state.JoinCommand{Hash: token, Member: badMember, At: epoch}.Encode(),
		state.InitClusterCommand{ClusterID: "c", Member: badMember}.Encode(),
		state.InitClusterCommand{Member: testMember(1)}.Encode(),
	) {
		if code(result.Err) != api.CodeInvalid {
			t.Errorf("command %d: %+v", i, result)
		}
	}
}

package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

func importedPins(t *testing.T, n int) []api.Pin {
	t.Helper()
	var out []api.Pin
	for i := range n {
		digest, err := multihash.Sum(fmt.Append(nil, i), multihash.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, api.Pin{Cid: api.NewCid(cid.NewCidV1(cid.Raw, digest)), Timestamp: time.Unix(1_600_000_000, 0).UTC(),
			Allocations: []peer.ID{peer.ID(digest)}, PinOptions: api.PinOptions{Mode: api.ModeRecursive, ReplicationFactorMin: 2, ReplicationFactorMax: 3}})
	}
	return out
}

func openPinset(t *testing.T, folder Folder) Pinset {
	t.Helper()
	p, err := OpenPinset(t.Context(), folder, Replication{Min: 1, Max: 2})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func dump(t *testing.T, p Pinset) (pins []api.Pin, index uint64) {
	t.Helper()
	notes, err := p.Dump(t.Context(), func(at uint64) error { index = at; return nil }, func(pin api.Pin) error {
		pins = append(pins, pin)
		return nil
	})
	if err != nil || len(notes) > 0 {
		t.Fatal(notes, err)
	}
	return pins, index
}

// A peer that has never run takes pins in through its own log, and has them
// when its files are opened again.
func TestStoppedPeerTakesPinsIn(t *testing.T) {
	folder, err := Found(filepath.Join(t.TempDir(), "peer"))
	if err != nil {
		t.Fatal(err)
	}
	p := openPinset(t, folder)
	if _, err := OpenPinset(t.Context(), folder, Replication{}); err == nil || p.Running() {
		t.Error("two processes have the folder open")
	}
	want := importedPins(t, 50)
	if answer, err := p.Import(t.Context(), want); err != nil || answer.Changed != 50 || len(answer.Failed) > 0 {
		t.Fatalf("%+v, %v", answer, err)
	}
	if answer, err := p.Import(t.Context(), want); err != nil || answer.Unchanged != 50 {
		t.Errorf("again: %+v, %v", answer, err)
	}
	before, err := p.Hash(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = openPinset(t, folder)
	pins, index := dump(t, p)
	after, err := p.Hash(t.Context())
	if err != nil || len(pins) != 50 || after.Hash != before.Hash || after.Index != index {
		t.Errorf("%d pins at index %d, hash %+v, %v", len(pins), index, after, err)
	}
	for _, pin := range pins {
		if len(pin.Allocations) != 1 || pin.Allocations[0] != folder.Identity.ID || pin.ReplicationFactorMin != 2 || pin.Timestamp.Unix() != 1_600_000_000 {
			t.Fatalf("stored as %+v", pin)
		}
	}
	stale := pins[0]
	stale.Revision++
	if answer, err := p.Remove(t.Context(), append(pins[1:], stale)); err != nil || answer.Changed != 49 || answer.Unchanged != 1 {
		t.Errorf("removed %+v, %v", answer, err)
	}
	if answer, err := p.Check(t.Context()); err != nil || answer.Checked != 1 || len(answer.Problems) > 0 {
		t.Errorf("check: %+v, %v", answer, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// A peer with others must not have another pinset than they.
func TestStoppedPeerWithOthersTakesNoPinsIn(t *testing.T) {
	folder, err := Found(filepath.Join(t.TempDir(), "peer"))
	if err != nil {
		t.Fatal(err)
	}
	joined := folder
	joined.Cluster.Founder = false
	p := openPinset(t, joined)
	if _, err := p.Import(t.Context(), importedPins(t, 1)); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a peer that joined: %v", err)
	}
	if pins, _ := dump(t, p); len(pins) > 0 {
		t.Errorf("it has %d pins", len(pins))
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := MayJoin(folder.Dir); err != nil {
		t.Errorf("the refusal made a log: %v", err)
	}
}

func TestCheckOfStoppedPeerFindsDamage(t *testing.T) {
	folder, err := Found(filepath.Join(t.TempDir(), "peer"))
	if err != nil {
		t.Fatal(err)
	}
	p := openPinset(t, folder)
	if _, err := p.Import(t.Context(), importedPins(t, 5)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open(filepath.Join(folder.Dir, "state", "db-000001"), &pebble.Options{FormatMajorVersion: pebble.FormatTableFormatV6})
	if err != nil {
		t.Fatal(err)
	}
	one := importedPins(t, 1)[0]
	if err := errors.Join(db.Delete(append([]byte("p"), one.Cid.Bytes()...), pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	p = openPinset(t, folder)
	answer, err := p.Check(t.Context())
	if err != nil || answer.Checked != 4 || len(answer.Problems) == 0 || !strings.Contains(strings.Join(answer.Problems, ";"), "index") {
		t.Errorf("%+v, %v", answer, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLongReportsAreCutShort(t *testing.T) {
	var answer CheckAnswer
	for i := range maxProblems + 7 {
		answer.report(fmt.Sprint(i))
	}
	if len(answer.Problems) != maxProblems || answer.More != 7 {
		t.Errorf("%d problems and %d more", len(answer.Problems), answer.More)
	}
}

// Whatever becomes of some pins, the others are dealt with, and what somebody
// else has changed meanwhile is not removed.
func TestEachPinCounts(t *testing.T) {
	folder, err := Found(filepath.Join(t.TempDir(), "peer"))
	if err != nil {
		t.Fatal(err)
	}
	p := openPinset(t, folder)
	defer p.Close()
	pins := importedPins(t, 2500) // several chunks
	if answer, err := p.Import(t.Context(), pins[3:4]); err != nil || answer.Changed != 1 {
		t.Fatalf("%+v, %v", answer, err)
	}
	pins[5].ReplicationFactorMin = 4
	answer, err := p.Import(t.Context(), pins)
	if err != nil || answer.Changed != 2498 || answer.Unchanged != 1 || len(answer.Failed) != 1 || answer.Failed[0].Cid != pins[5].Cid || answer.Failed[0].Error.Code != api.CodeInvalid {
		t.Errorf("%d changed, %d not, failed %+v, %v", answer.Changed, answer.Unchanged, answer.Failed, err)
	}
	stored, _ := dump(t, p)
	for _, pin := range stored {
		if !pin.Timestamp.Equal(pins[0].Timestamp) || pin.ReplicationFactorMax != 3 {
			t.Fatalf("stored as %+v", pin)
		}
	}
	changed := stored[:1]
	changed[0].Name = "by somebody else"
	if answer, err := p.Import(t.Context(), changed); err != nil || answer.Changed != 1 {
		t.Fatalf("%+v, %v", answer, err)
	}
	others := append(stored, api.Pin{Cid: pins[5].Cid, Revision: 1})
	if answer, err := p.Remove(t.Context(), others); err != nil || answer.Changed != 2498 || answer.Unchanged != 2 || len(answer.Failed) > 0 {
		t.Errorf("removed %+v, %v", answer, err)
	}
	if left, _ := dump(t, p); len(left) != 1 || left[0].Name != "by somebody else" {
		t.Errorf("left are %d pins", len(left))
	}
}

package cluster

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

func importOf(i, lo, hi int, on ...peer.ID) api.BulkLine {
	return api.BulkLine{Cid: testCid(i), Import: &api.Import{Timestamp: time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC), Allocations: on},
		Options: api.PinOptions{ReplicationFactorMin: lo, ReplicationFactorMax: hi, Name: "old", PinUpdate: testCid(99), Metadata: map[string]string{"k": "v"}}}
}

func (w *world) mustImport(line api.BulkLine) api.BulkResult {
	w.t.Helper()
	result := bulkAll(w.t, w.cluster, []api.BulkLine{line})[0]
	if result.Err != nil {
		w.t.Fatal(result.Err)
	}
	return result
}

func TestImportKeepsWhatTheExportSays(t *testing.T) {
	w := newWorld(t, 3, nil)
	got := w.mustImport(importOf(1, 2, 2, testPeer(2), testPeer(1))).Pin
	if !slices.Equal(got.Allocations, []peer.ID{testPeer(2), testPeer(1)}) || got.Name != "old" || got.PinUpdate != testCid(99) ||
		!got.Timestamp.Equal(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)) || got.Metadata["k"] != "v" {
		t.Errorf("stored as %+v", got)
	}
	all := w.mustImport(importOf(2, -1, -1)).Pin
	if !all.IsEverywhere() || len(all.Allocations) > 0 {
		t.Errorf("a pin for every peer was stored as %+v", all)
	}
}

// An import that was broken off is repeated from its beginning: what is there
// costs no log entry and moves nowhere.
func TestImportAgainChangesNothing(t *testing.T) {
	stranger := testPeer(77)
	for name, req := range map[string]api.BulkLine{
		"as it was":        importOf(1, 2, 2, testPeer(2), testPeer(1)),
		"every peer":       importOf(2, -1, -1),
		"unknown peers":    importOf(3, 2, 3, stranger, testPeer(78)),
		"one unknown peer": importOf(4, 1, 2, testPeer(1), stranger),
		"no peers named":   importOf(5, 1, 2),
		"too few peers":    importOf(6, 5, 6, stranger),
		"too many peers":   importOf(7, 1, 1, testPeer(0), testPeer(1)),
		"defaults":         importOf(8, 0, 0),
	} {
		w := newWorld(t, 3, nil)
		first := w.mustImport(req)
		index := w.index
		if again := w.mustImport(req); again.Pin.Revision != first.Pin.Revision || w.index != index {
			t.Errorf("%s: stored at %d as %v and again at %d as %v", name, first.Pin.Revision, first.Pin.Allocations, w.index, again.Pin.Allocations)
		}
	}
}

func TestImportReplacesUnknownPeers(t *testing.T) {
	w := newWorld(t, 3, nil)
	pin := w.mustImport(importOf(1, 2, 2, testPeer(2), testPeer(77))).Pin
	if len(pin.Allocations) != 2 || pin.Allocations[0] != testPeer(2) || !pin.AllocatedTo(testPeer(2)) || pin.AllocatedTo(testPeer(77)) {
		t.Errorf("allocated to %v", pin.Allocations)
	}
}

// A new cluster is restored before all of its peers are there.
func TestImportIntoTooSmallCluster(t *testing.T) {
	w := newWorld(t, 1, nil)
	pin := w.mustImport(importOf(1, 2, 3, testPeer(77), testPeer(78))).Pin
	if !slices.Equal(pin.Allocations, []peer.ID{testPeer(0)}) || pin.ReplicationFactorMin != 2 || pin.ReplicationFactorMax != 3 {
		t.Errorf("stored as %+v", pin)
	}
}

func TestImportRefusesWhatCannotBe(t *testing.T) {
	w := newWorld(t, 2, nil)
	w.mustImport(importOf(1, 1, 2))
	direct := importOf(1, 1, 2)
	direct.Options.Mode = api.ModeDirect
	expired := importOf(2, 1, 2)
	expired.Options.ExpireAt = time.Now().Add(-time.Hour)
	for name, req := range map[string]api.BulkLine{"direct over recursive": direct, "expired": expired, "factors": importOf(3, 3, 2)} {
		if err := bulkAll(t, w.cluster, []api.BulkLine{req})[0].Err; !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A peer that has been deposed and does not know it has an old pinset: it must
// not say that a pin stands.
func TestDeposedLeaderDoesNotSayThatAnImportStands(t *testing.T) {
	w := newWorld(t, 3, func(c *Config) { c.LeaderWait = time.Nanosecond })
	w.mustImport(importOf(1, 1, 2))
	w.cluster.log = deposed{w}
	if result := bulkAll(t, w.cluster, []api.BulkLine{importOf(1, 1, 2)})[0]; api.CodeOf(result.Err) != api.CodeNoLeader {
		t.Errorf("answered %+v", result)
	}
}

// deposed is the log of a peer that still takes itself for the leader.
type deposed struct{ Log }

func (deposed) ReadIndex(context.Context) (uint64, error) {
	return 0, api.Errorf(api.CodeNoLeader, "another one leads")
}

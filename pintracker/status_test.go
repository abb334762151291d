package pintracker

import (
	"context"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// oddFail makes the fetch of every CID with an odd last byte fail.
func oddFail(_ context.Context, pin api.Pin, _ func(blocks, bytes uint64)) error {
	if odd(pin.Cid.Cid) {
		return api.Errorf(api.CodeUnavailable, "nobody has it")
	}
	return nil
}

func odd(c cid.Cid) bool { return c.Bytes()[len(c.Bytes())-1]%2 == 1 }

func TestStatusAll(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.node.fetch = oddFail
		const n = 3 * pageSize
		var all, failed, good []string
		var cids []api.Cid
		for i := range n {
			c := nthCid(i)
			r.source.pin(c, api.ModeRecursive, "", self)
			all = append(all, c.KeyString())
			cids = append(cids, api.NewCid(c))
			if odd(c) {
				failed = append(failed, c.KeyString())
			} else {
				good = append(good, c.KeyString())
			}
		}
		for _, list := range [][]string{all, failed, good} {
			slices.Sort(list)
		}
		at := func(list []string, i int) api.Cid {
			c, err := cid.Cast([]byte(list[i]))
			if err != nil {
				t.Fatal(err)
			}
			return api.NewCid(c)
		}
		r.start()
		defer r.stop()
		time.Sleep(5 * time.Second)
		for _, c := range []struct {
			name  string
			query api.StatusQuery
			want  []string
		}{
			{"all", api.StatusQuery{}, all},
			{"every status named", api.StatusQuery{Filter: ^api.StatusUndefined}, all},
			{"errors", api.StatusQuery{Filter: api.StatusError}, failed},
			{"pinned", api.StatusQuery{Filter: api.StatusPinned}, good},
			{"pinned or queued", api.StatusQuery{Filter: api.StatusPinned | api.StatusQueued}, good},
			{"pinned or failed", api.StatusQuery{Filter: api.StatusPinned | api.StatusPinError}, all},
			{"nothing", api.StatusQuery{Filter: api.StatusRemote | api.StatusUnpinning}, nil},
			{"limit", api.StatusQuery{Limit: 10}, all[:10]},
			{"limit over a page", api.StatusQuery{Filter: api.StatusPinned, Limit: pageSize + 1}, good[:pageSize+1]},
			{"cursor", api.StatusQuery{After: at(all, 700), Limit: 5}, all[701:706]},
			{"cursor and filter", api.StatusQuery{After: at(failed, 600), Filter: api.StatusError}, failed[601:]},
			{"cursor at the end", api.StatusQuery{After: at(all, n-1)}, nil},
			{"named", api.StatusQuery{Cids: append(cids[:3:3], cids[1], api.NewCid(nthCid(n)))}, sorted(cids[:3])},
			{"named and filter", api.StatusQuery{Cids: cids, Filter: api.StatusPinned, After: at(good, 3), Limit: 2}, good[4:6]},
		} {
			var got []string
			for _, info := range r.all(c.query) {
				got = append(got, info.Cid.KeyString())
				if info.Peer != self || info.Status == 0 {
					t.Fatalf("%s: got %+v", c.name, info)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Fatalf("%s: got %d, want %d", c.name, len(got), len(c.want))
			}
		}
	})
}

func sorted(cids []api.Cid) (out []string) {
	for _, c := range cids {
		out = append(out, c.KeyString())
	}
	slices.Sort(out)
	return out
}

func TestRecover(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.node.fetch = oddFail
		const n = pageSize + 100
		for i := range 2 * n {
			r.source.pin(nthCid(i), api.ModeRecursive, "", self)
		}
		r.start()
		defer r.stop()
		time.Sleep(20 * time.Hour) // all that fail are nearly given up
		failed := r.all(api.StatusQuery{Filter: api.StatusError})
		if len(failed) < pageSize {
			t.Fatalf("only %d have failed", len(failed))
		}
		if found, err := r.tracker.Recover(nthCid(3 * n)); found || err != nil {
			t.Fatalf("recover of nothing: %v %v", found, err)
		}
		one := failed[3].Cid.Cid
		if found, err := r.tracker.Recover(one); !found || err != nil {
			t.Fatalf("recover: %v %v", found, err)
		}
		settle()
		if info := r.want(one, api.StatusPinError); info.AttemptCount != 1 || time.Until(*info.NextAttempt) > time.Minute {
			t.Fatalf("after its recovery and another failure: %+v", info)
		}
		r.node.mu.Lock()
		r.node.fetch = nil
		r.node.mu.Unlock()
		count := 0
		for info, err := range r.tracker.RecoverAll() {
			if err != nil || info.Status != api.StatusPinQueued || info.Cid != failed[count].Cid {
				t.Fatalf("recover all: %+v, %v", info, err)
			}
			count++
		}
		if count != len(failed) {
			t.Fatalf("%d of %d were recovered", count, len(failed))
		}
		time.Sleep(10 * time.Second)
		if counts := r.tracker.Counts(); len(counts) != 1 || counts[api.StatusPinned] != 2*n || r.tracker.Queued() != 0 {
			t.Fatalf("after the recovery: %v", counts)
		}
	})
}

// The status considers the pinset even where the tracker has not come to it.
func TestStatusIsNeverBehindThePinset(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start()
		a := nthCid(1)
		r.source.pin(a, api.ModeRecursive, "", self)
		settle()
		r.cancel()
		if err := <-r.done; err != nil { // nobody follows any more
			t.Fatal(err)
		}
		r.source.unpin(a)
		r.want(a, api.StatusUnpinQueued)
		r.source.pin(nthCid(2), api.ModeRecursive, "", self)
		r.want(nthCid(2), api.StatusPinQueued)
		if err := r.tracker.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// full is a record with every field set.
var full = record{status: api.StatusPinError, since: 1, mode: api.ModeDirect, revision: 2, name: "n", class: classDead,
	due: 3, attempts: 4, code: api.CodeInvalid, errText: "e", blocks: 5, bytes: 6, lastBlock: 7, priority: true, reason: "r", asked: 8, wishes: 9}

// What was once written must be readable for ever.
func TestRecordGolden(t *testing.T) {
	const golden = "08021001180120022a016e3005380340044a07696e76616c696452016558056006680770017a0172800108880109"
	if got := hex.EncodeToString(full.encode(nil)); got != golden {
		t.Errorf("encoded as %s, want %s", got, golden)
	}
	data, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := decodeRecord(data); err != nil || rec != full {
		t.Errorf("decoded %+v, %v; want %+v", rec, err, full)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add(full.encode(nil))
	f.Add([]byte{0x30, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decodeRecord(data)
		if err != nil {
			return
		}
		again, err := decodeRecord(rec.encode(nil))
		if err != nil || again != rec {
			t.Fatalf("%+v became %+v, %v", rec, again, err)
		}
	})
}

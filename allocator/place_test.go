package allocator_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/allocator"
	"holdfast/api"
)

func sum(text string) multihash.Multihash {
	hash, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return hash
}

func testCid(n int) cid.Cid { return cid.NewCidV1(cid.Raw, sum(fmt.Sprint("content ", n))) }

func testPeer(name string) peer.ID { return peer.ID(sum("peer " + name)) }

func ids(names string) []peer.ID {
	var out []peer.ID
	for _, name := range strings.Fields(names) {
		out = append(out, testPeer(name))
	}
	return out
}

func sameSet(a, b []peer.ID) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// candidates reads "name[:flags][@zone]": d is down (neither usable nor live),
// x is excluded but live, f is full.
func candidates(text string) []allocator.Candidate {
	var out []allocator.Candidate
	for _, word := range strings.Fields(text) {
		word, zone, _ := strings.Cut(word, "@")
		name, flags, _ := strings.Cut(word, ":")
		c := allocator.Candidate{ID: testPeer(name), Free: 1 << 40, Usable: true, Live: true}
		if zone != "" {
			c.Tags = map[string]string{"zone": zone}
		}
		if strings.Contains(flags, "d") {
			c.Usable, c.Live, c.Why = false, false, "down"
		}
		if strings.Contains(flags, "x") {
			c.Usable = false
		}
		if strings.Contains(flags, "f") {
			c.Free = 0
		}
		out = append(out, c)
	}
	return out
}

func TestPlace(t *testing.T) {
	for _, test := range []struct {
		name         string
		min, max     int
		prefer, have string
		peers        string
		want         string // exact set, when given
		count        int    // else only its size
		contains     string
		code         api.Code
	}{
		{name: "everywhere", min: -1, max: -1, have: "a", peers: "a b c"},
		{name: "factors missing", min: 0, max: 2, peers: "a b", code: api.CodeInvalid},
		{name: "min above max", min: 3, max: 2, peers: "a b c", code: api.CodeInvalid},
		{name: "half everywhere", min: -1, max: 2, peers: "a b c", code: api.CodeInvalid},
		{name: "new pin", min: 2, max: 2, peers: "a b c", count: 2},
		{name: "as many as there are", min: 1, max: 5, peers: "a b c", want: "a b c"},
		{name: "nothing to do", min: 1, max: 2, have: "a b", peers: "a b c d", want: "a b"},
		{name: "filled up", min: 1, max: 3, have: "a", peers: "a b c", want: "a b c"},
		{name: "the dead are replaced", min: 2, max: 2, have: "a b", peers: "a:d b c", want: "b c"},
		{name: "the dead are kept for want of others", min: 1, max: 2, have: "a b", peers: "a:d b c:d", want: "a b"},
		{name: "the dead do not count for the minimum", min: 2, max: 2, have: "a b", peers: "a:d b c:d", code: api.CodeNotEnoughPeers},
		{name: "who left is dropped", min: 1, max: 2, have: "a b", peers: "b", want: "b"},
		{name: "who left is replaced", min: 1, max: 2, have: "a b", peers: "b c", want: "b c"},
		{name: "excluded peers keep what they have", min: 1, max: 2, have: "a b", peers: "a:x b c", want: "a b"},
		{name: "excluded peers get nothing new", min: 1, max: 3, peers: "a:x b c", want: "b c"},
		{name: "full peers keep what they have", min: 1, max: 2, have: "a b", peers: "a:f b c", want: "a b"},
		{name: "full peers get nothing new", min: 3, max: 3, peers: "a:f b c", code: api.CodeNotEnoughPeers},
		{name: "too many: the dead go first", min: 1, max: 2, have: "a b c", peers: "a:d b c", want: "b c"},
		{name: "too many: then the excluded", min: 1, max: 2, have: "a b c", peers: "a b:x c d", want: "a c"},
		{name: "too many: the preferred stay", min: 1, max: 1, have: "a b c", prefer: "c", peers: "a b c", want: "c"},
		{name: "preferred first", min: 2, max: 2, prefer: "c a", peers: "a b c d e", want: "a c"},
		{name: "preferred only as far as usable", min: 2, max: 2, prefer: "c a z", peers: "a b c:d", want: "a b"},
		{name: "preferred does not displace", min: 1, max: 2, have: "a b", prefer: "c", peers: "a b c", want: "a b"},
		{name: "preferred beats zones", min: 2, max: 2, prefer: "a b", peers: "a@x b@x c@y", want: "a b"},
		{name: "one per zone", min: 3, max: 3, peers: "a@x b@x c@x d@y e@z", count: 3, contains: "d e"},
		{name: "a zone that is used already", min: 2, max: 2, have: "a", peers: "a@x b@x c@x d@y", want: "a d"},
		{name: "more replicas than zones", min: 4, max: 4, peers: "a@x b@x c@y d@y", want: "a b c d"},
		{name: "a candidate twice", min: 2, max: 2, peers: "a a", code: api.CodeNotEnoughPeers},
		{name: "an allocation twice", min: 1, max: 2, have: "a a", peers: "a b", want: "a b"},
		{name: "no peers", min: 1, max: 1, code: api.CodeNotEnoughPeers},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := allocator.Request{Cid: testCid(1), Min: test.min, Max: test.max, Prefer: ids(test.prefer), Have: ids(test.have), Candidates: candidates(test.peers)}
			got, err := allocator.Place(request)
			if api.CodeOf(err) != test.code {
				t.Fatalf("error %v, want code %q", err, test.code)
			}
			if test.want != "" || test.count == 0 {
				if !sameSet(got.Allocations, ids(test.want)) {
					t.Errorf("allocations %v, want %v", got.Allocations, ids(test.want))
				}
			} else if len(got.Allocations) != test.count {
				t.Errorf("%d allocations, want %d", len(got.Allocations), test.count)
			}
			for _, id := range ids(test.contains) {
				if !slices.Contains(got.Allocations, id) {
					t.Errorf("%s is missing in %v", id, got.Allocations)
				}
			}
		})
	}
}

func TestNotEnoughPeersSaysWhy(t *testing.T) {
	_, err := allocator.Place(allocator.Request{Cid: testCid(1), Min: 3, Max: 3, Have: ids("gone"), Candidates: candidates("a b:d c:f d:x")})
	if !errors.Is(err, api.ErrNotEnoughPeers) {
		t.Fatalf("error %v", err)
	}
	for _, part := range []string{
		"needs at least 3 peers, but 1 can hold it: " + testPeer("a").String(),
		testPeer("b").String() + " is not usable: down",
		testPeer("c").String() + " is not usable: it has no free space",
		testPeer("d").String() + " is not usable: it is not up, its IPFS node is broken, or it is excluded",
		testPeer("gone").String() + " is not a peer of this cluster any more",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error lacks %q: %v", part, err)
		}
	}
	var many string
	for n := range 100 {
		many += fmt.Sprintf(" p%d:d", n)
	}
	_, err = allocator.Place(allocator.Request{Cid: testCid(1), Min: 1, Max: 1, Candidates: candidates(many)})
	if !strings.Contains(err.Error(), "and 92 more") || len(err.Error()) > 1500 {
		t.Errorf("error of %d bytes: %v", len(err.Error()), err)
	}
}

func TestReasons(t *testing.T) {
	request := allocator.Request{Cid: testCid(1), Min: 1, Max: 3, Have: ids("a gone"), Prefer: ids("c nobody"),
		Candidates: candidates("a@x b:d c@x d@x e@y f:f")}
	got, err := allocator.Place(request)
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := allocator.Explain(request)
	if err != nil {
		t.Fatal(err)
	}
	want := []allocator.Reason{
		{Peer: testPeer("a"), Chosen: true, Text: "kept: holds a live replica"},
		{Peer: testPeer("b"), Text: "not usable: down"},
		{Peer: testPeer("c"), Chosen: true, Text: "chosen: the request prefers it"},
		{Peer: testPeer("d"), Text: "not chosen: 3 replicas are enough, and others come before it"},
		{Peer: testPeer("e"), Chosen: true},
		{Peer: testPeer("f"), Text: "not usable: it has no free space"},
		{Peer: testPeer("gone"), Text: "dropped: it is not a peer of this cluster"},
		{Peer: testPeer("nobody"), Text: "not chosen: the request prefers it, but it is not a peer of this cluster"},
	}
	if len(reasons) != len(want) {
		t.Fatalf("reasons %+v", reasons)
	}
	for i, reason := range reasons {
		if want[i].Text == "" {
			want[i].Text = reason.Text
		}
		if reason != want[i] {
			t.Errorf("reason %+v, want %+v", reason, want[i])
		}
	}
	if !slices.Equal(got.Added, ids("c e")) || !slices.Equal(got.Dropped, ids("gone")) || !slices.Equal(got.Allocations, ids("a c e")) {
		t.Errorf("decision %+v", got)
	}
}

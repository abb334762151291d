package rpc

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

func testCid(t *testing.T) api.Cid {
	t.Helper()
	c, err := cid.Decode("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
	if err != nil {
		t.Fatal(err)
	}
	return api.NewCid(c)
}

// fakePeer answers every service; what it was asked is in its fields.
type fakePeer struct {
	Cluster
	Joiner
	Tracker
	Monitor
	id      peer.ID
	blocks  int
	failAt  int
	synced  bool
	leases  int
	request api.PinRequest
	from    peer.ID
}

func (f *fakePeer) services() Services {
	return Services{Cluster: f, Joiner: f, Tracker: f, Monitor: f, Node: f}
}

func (f *fakePeer) Pin(_ context.Context, in api.PinRequest) (api.PinResult, error) {
	f.request = in
	if in.Options.Name == "refuse" {
		return api.PinResult{}, api.Errorf(api.CodeNotEnoughPeers, "need 3, have 1")
	}
	return api.PinResult{Pin: api.Pin{Cid: in.Cid, PinOptions: in.Options, Allocations: []peer.ID{f.id}}, Index: 7}, nil
}

func (f *fakePeer) Join(context.Context, api.JoinRequest) (api.JoinReply, error) {
	return api.JoinReply{}, nil
}

func (f *fakePeer) Standing(_ context.Context, id peer.ID) (api.Standing, error) {
	f.from = id
	return api.Standing{Recovered: time.Unix(5, 0)}, nil
}

func (f *fakePeer) Receive(_ context.Context, from peer.ID, r api.PeerReport) (api.Digest, error) {
	f.from = from
	return api.Digest{Peers: []api.PeerView{{Report: r, State: api.PeerUp, Since: time.Unix(5, 0)}}}, nil
}

func (f *fakePeer) LocalStatusAll(_ context.Context, q api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return func(yield func(api.PinInfo, error) bool) {
		for range q.Limit {
			if !yield(api.PinInfo{Peer: f.id, PinInfoShort: api.PinInfoShort{Status: api.StatusPinned}}, nil) {
				return
			}
		}
		yield(api.PinInfo{}, api.Errorf(api.CodeNoSpace, "the end"))
	}
}

func (f *fakePeer) LocalRepoStat(context.Context) (api.RepoStat, error)       { return api.RepoStat{}, nil }
func (f *fakePeer) CollectGarbage(context.Context, func(api.RepoGCKey)) error { return nil }
func (f *fakePeer) Lease(context.Context) (func(), error)                     { f.leases++; return func() {}, nil }
func (f *fakePeer) Sync(context.Context) error                                { f.synced = true; return nil }
func (f *fakePeer) PutBlocks(_ context.Context, blocks []api.Block) error {
	f.blocks += len(blocks)
	if f.failAt > 0 && f.blocks >= f.failAt {
		return api.Errorf(api.CodeNoSpace, "disk full")
	}
	return nil
}

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// eachTransport runs a test over libp2p and over the in-memory network.
func eachTransport(t *testing.T, member bool, run func(t *testing.T, c *Client, from peer.ID, to *fakePeer)) {
	roleOf := func(peer.ID) Role {
		if member {
			return Voter
		}
		return Stranger
	}
	t.Run("libp2p", func(t *testing.T) {
		a, b := newHost(t), newHost(t)
		a.Peerstore().AddAddrs(b.ID(), b.Addrs(), time.Hour)
		f := &fakePeer{id: b.ID()}
		if _, err := Serve(b, f.services(), roleOf); err != nil {
			t.Fatal(err)
		}
		run(t, NewClient(NewTransport(a)), a.ID(), f)
	})
	t.Run("memory", func(t *testing.T) {
		from, to := test.RandPeerIDFatal(t), test.RandPeerIDFatal(t)
		var network Memory
		f := &fakePeer{id: to}
		network.Serve(to, f.services(), roleOf)
		run(t, NewClient(network.Serve(from, (&fakePeer{}).services(), roleOf)), from, f)
	})
}

func TestCalls(t *testing.T) {
	eachTransport(t, true, func(t *testing.T, c *Client, from peer.ID, to *fakePeer) {
		ctx := t.Context()
		origin := multiaddr.StringCast("/ip4/127.0.0.1/tcp/4001/p2p/" + from.String())
		want := api.PinOptions{Name: "n", Mode: api.ModeDirect, ReplicationFactorMin: -1, ReplicationFactorMax: -1,
			UserAllocations: []peer.ID{from}, Metadata: map[string]string{"k": "v"},
			ExpireAt: time.Unix(1e9, 0).UTC(), Origins: []multiaddr.Multiaddr{origin}, PinUpdate: testCid(t)}
		got, err := c.Pin(ctx, to.id, api.PinRequest{Cid: testCid(t), Options: want, RequestID: "r"})
		if err != nil {
			t.Fatal(err)
		}
		got.Pin.ExpireAt = got.Pin.ExpireAt.UTC()
		if !reflect.DeepEqual(got.Pin.PinOptions, want) || !got.Pin.Cid.Equals(testCid(t).Cid) || got.Index != 7 {
			t.Errorf("got %+v\nwant %+v", got.Pin.PinOptions, want)
		}
		if to.request.RequestID != "r" {
			t.Errorf("request id %q", to.request.RequestID)
		}
		_, err = c.Pin(ctx, to.id, api.PinRequest{Cid: testCid(t), Options: api.PinOptions{Name: "refuse"}})
		if !errors.Is(err, api.ErrNotEnoughPeers) || err.Error() != "need 3, have 1" {
			t.Errorf("got error %v", err)
		}
		digest, err := c.Report(ctx, to.id, api.PeerReport{Peer: from, Name: "x"})
		if err != nil || len(digest.Peers) != 1 || digest.Peers[0].Report.Name != "x" || to.from != from {
			t.Errorf("digest %+v from %s, error %v", digest, to.from, err)
		}
	})
}

func TestStrangersMayOnlyJoinAndAskAboutThemselves(t *testing.T) {
	eachTransport(t, false, func(t *testing.T, c *Client, _ peer.ID, to *fakePeer) {
		if _, err := c.Pin(t.Context(), to.id, api.PinRequest{Cid: testCid(t)}); api.CodeOf(err) != api.CodeForbidden {
			t.Errorf("pin by a stranger: %v", err)
		}
		if standing, err := c.Standing(t.Context(), to.id); err != nil || standing.Member || to.from == "" {
			t.Errorf("a stranger is told %+v, %v as %q", standing, err, to.from)
		}
	})
}

func TestUnreachable(t *testing.T) {
	eachTransport(t, true, func(t *testing.T, c *Client, _ peer.ID, _ *fakePeer) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := c.ReadIndex(ctx, test.RandPeerIDFatal(t)); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStatusStream(t *testing.T) {
	eachTransport(t, true, func(t *testing.T, c *Client, _ peer.ID, to *fakePeer) {
		count := 0
		var last error
		for info, err := range c.StatusAll(t.Context(), to.id, api.StatusQuery{Limit: 1000}) {
			if last = err; err == nil {
				count++
				if info.Peer != to.id || info.Status != api.StatusPinned {
					t.Fatalf("got %+v", info)
				}
			}
		}
		if count != 1000 || !errors.Is(last, api.ErrNoSpace) {
			t.Errorf("%d items, then %v", count, last)
		}
		for range c.StatusAll(t.Context(), to.id, api.StatusQuery{Limit: 100000}) {
			break // a reader that leaves early ends the stream
		}
	})
}

func TestBlockStream(t *testing.T) {
	eachTransport(t, true, func(t *testing.T, c *Client, _ peer.ID, to *fakePeer) {
		s := c.OpenBlocks(t.Context(), to.id)
		for range 100 {
			if err := s.Put([]api.Block{{Cid: testCid(t), Data: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if to.blocks != 100 || to.leases != 1 || !to.synced {
			t.Errorf("%d blocks, %d leases", to.blocks, to.leases)
		}
		to.failAt = to.blocks + 10
		s = c.OpenBlocks(t.Context(), to.id)
		var err error
		for i := 0; i < 1000 && err == nil; i++ {
			err = s.Put([]api.Block{{Cid: testCid(t)}})
		}
		if !errors.Is(err, api.ErrNoSpace) || !errors.Is(s.Close(), api.ErrNoSpace) {
			t.Errorf("got %v", err)
		}
		to.failAt = 0
		s = c.OpenBlocks(t.Context(), to.id)
		_ = s.Put([]api.Block{{Cid: testCid(t)}})
		s.Abort()
	})
}

func (f *fakePeer) LocalRepoGC(context.Context) (api.RepoGC, error) { return api.RepoGC{}, nil }

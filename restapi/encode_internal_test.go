package restapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"holdfast/api"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// The fast encoder must not be told from encoding/json.
func TestEncoderIsEncodingJSON(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	e := newEncoder()
	unseen := map[string]bool{}
	for range 5000 {
		pin, status := g.pin(), g.status()
		note(unseen, pin)
		note(unseen, status)
		for _, short := range status.PeerMap {
			note(unseen, short)
		}
		for _, tc := range []struct {
			write func()
			want  any
		}{
			{func() { e.pin(pin) }, pinJSON(pin)},
			{func() { e.status(status) }, statusJSON(status)},
		} {
			e.buf = e.buf[:0]
			tc.write()
			want, err := json.Marshal(tc.want)
			if err != nil || e.err != nil || string(e.buf) != string(want) {
				t.Fatalf("got\n%s\nwant\n%s\n%v %v", e.buf, want, e.err, err)
			}
		}
	}
	for field, empty := range unseen {
		if empty {
			t.Errorf("%s was never set: a new field of api must come into the encoder and into this test", field)
		}
	}
}

// note clears the fields of a struct that are set.
func note(unseen map[string]bool, v any) {
	value := reflect.ValueOf(v)
	for _, field := range reflect.VisibleFields(value.Type()) {
		name := value.Type().Name() + "." + field.Name
		before, known := unseen[name]
		unseen[name] = (before || !known) && value.FieldByIndex(field.Index).IsZero()
	}
}

type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func (g generator) text() string {
	return pick(g, "", "plain", `quo"te\`, "<html>&", "ümlaut", "line\nbreak", "\u2028", "bad\xffutf8", "del\x7f")
}

func (g generator) time() time.Time {
	at := time.Unix(g.Int64N(4e9), 0)
	return pick(g, time.Time{}, at.UTC(), at.Add(time.Duration(g.IntN(1e9))).UTC(), at.In(time.FixedZone("x", 3600)))
}

func (g generator) cid() api.Cid {
	c, err := api.DecodeCid(pick(g, "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "QmWATWQ7fVPP2EFGu71UkfnqhYXDYH566qy47CnJDgvs8u"))
	if err != nil {
		panic(err)
	}
	return pick(g, api.Cid{}, c, c)
}

func (g generator) peer() peer.ID {
	id, err := peer.Decode(pick(g, "12D3KooWGRUVh7vKjCTiUzvEgYd9Z6DNxqVSqaGeFrMJyC8Mpnn5", "QmSoLPppuBtQSGwKDZT2M73ULpjvfd3aZ6ha4oFGL1KrGM"))
	if err != nil {
		panic(err)
	}
	return id
}

func (g generator) addrs() []multiaddr.Multiaddr {
	a := multiaddr.StringCast(fmt.Sprintf("/ip4/10.0.0.%d/tcp/4001/p2p/%s", g.IntN(3), g.peer()))
	return pick(g, nil, []multiaddr.Multiaddr{}, []multiaddr.Multiaddr{a}, []multiaddr.Multiaddr{a, multiaddr.StringCast("/dns4/example.org/tcp/443")})
}

func (g generator) metadata() map[string]string {
	return pick(g, nil, map[string]string{}, map[string]string{g.text(): g.text(), "k": "v", "a": g.text()})
}

func (g generator) pin() api.Pin {
	ids := pick(g, nil, []peer.ID{}, []peer.ID{g.peer(), g.peer()})
	reference := g.cid()
	return api.Pin{MaxDepth: g.IntN(2), PinOptions: api.PinOptions{ReplicationFactorMin: g.IntN(4) - 1, ReplicationFactorMax: g.IntN(4) - 1, Name: g.text(),
		Mode: pick(g, "", api.ModeDirect, api.ModeRecursive), ShardSize: g.Uint64(), UserAllocations: ids, ExpireAt: g.time(),
		Metadata: g.metadata(), PinUpdate: g.cid(), Origins: g.addrs()},
		Cid: g.cid(), Type: api.TypeData, Allocations: ids, Timestamp: g.time(), Reference: pick(g, nil, &reference), Revision: uint64(g.IntN(2))}
}

func (g generator) status() api.GlobalPinInfo {
	out := api.GlobalPinInfo{Cid: g.cid(), Name: g.text(), Allocations: pick(g, nil, []peer.ID{g.peer()}), Origins: g.addrs(),
		Created: g.time(), Metadata: g.metadata()}
	for range g.IntN(3) {
		if out.PeerMap == nil {
			out.PeerMap = map[string]api.PinInfoShort{}
		}
		at := g.time()
		out.PeerMap[g.peer().String()] = api.PinInfoShort{PeerName: g.text(), IPFS: pick(g, "", g.peer()), IPFSAddresses: g.addrs(),
			Status: api.TrackerStatus(g.IntN(1 << 13)), Timestamp: at, Error: g.text(), AttemptCount: g.IntN(3), PriorityPin: g.IntN(2) == 0, ErrorCode: pick(g, "", api.CodeNoSpace),
			Blocks: uint64(g.IntN(2)), Bytes: uint64(g.IntN(2)), NextAttempt: pick(g, nil, &at), LastBlockAt: pick(g, nil, &at)}
	}
	return out
}

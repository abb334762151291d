package daemon

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/ugorji/go/codec"

	"holdfast/api"
	"holdfast/config"
	"holdfast/consensus"
	"holdfast/consensus/libp2ptransport"
	"holdfast/node/fake"
	"holdfast/rpc"
)

// victim is a peer of a cluster as others reach it: all that its host offers
// over a real connection, with an IPFS node that is none.
type victim struct {
	daemon *Daemon
	at     peer.AddrInfo
	secret []byte
	token  JoinToken
	// raftAt takes raft's messages and does nothing by them: who is a member can
	// end a log with them, as raft believes its members.
	raftAt peer.AddrInfo
	member peer.ID // whom raftAt takes for one
	stop   func()  // ends the peer, and waits for that
}

func startVictim(t testing.TB) *victim { return startPeer(t, nil) }

// startPeer starts one whose node fails as fault says.
func startPeer(t testing.TB, fault func(fake.Op) error) *victim {
	t.Helper()
	folder, err := Found(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	effective, err := config.Load("", func(string) (string, bool) { return "", false }, map[string]string{
		"cluster.listen": "/ip4/127.0.0.1/tcp/0", "restapi.listen": "/ip4/127.0.0.1/tcp/0", "ipfsproxy.listen": "/ip4/127.0.0.1/tcp/0",
		"pinsvc.listen": "/ip4/127.0.0.1/tcp/0", "ipfs.swarm": "/ip4/127.0.0.1/tcp/0", "ipfs.gateway_listen": "/ip4/127.0.0.1/tcp/0", "peername": "victim"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{Dir: folder.Dir, Config: effective.Config, Identity: folder.Identity, Cluster: folder.Cluster,
		Seams: Seams{Node: func(wanted func(keep func(api.Pin) bool) error) (Node, error) {
			return fake.New(fake.Config{World: fake.NewWorld(0), Disk: fake.NewDisk(folder.Identity.ID), Wanted: wanted, Fault: fault})
		}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the peer ended with %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-d.Ready():
	case err := <-done:
		t.Fatalf("the peer ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the peer is not ready")
	}
	answer, err := d.CreateToken(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ParseJoinToken(answer.Token)
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{daemon: d, at: peer.AddrInfo{ID: d.ID(), Addrs: d.host.Addrs()}, secret: folder.Cluster.Secret, token: token, stop: stop}
	v.startRaft(t)
	return v
}

func (v *victim) startRaft(t testing.TB) {
	h := v.host(t)
	layer, err := libp2ptransport.Listen(h, func(id peer.ID) bool { return id == v.member })
	if err != nil {
		t.Fatal(err)
	}
	transport := consensus.NewTransport(consensus.TransportConfig{Layer: layer})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = layer.Close() })
	go func() {
		for {
			select {
			case request := <-transport.Consumer():
				if request.Reader != nil {
					_, _ = io.Copy(io.Discard, request.Reader)
				}
				request.Respond(&raft.RequestVoteResponse{}, nil)
			case <-ctx.Done():
				return
			}
		}
	}()
	v.raftAt = peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

// host makes one that knows the swarm's secret.
func (v *victim) host(t testing.TB) host.Host {
	t.Helper()
	identity, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHost(identity, ClusterInfo{Secret: v.secret}, []string{"/ip4/127.0.0.1/tcp/0"}, nil, joinConnections, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	h.Peerstore().AddAddrs(v.at.ID, v.at.Addrs, peerstore.PermanentAddrTTL)
	h.Peerstore().AddAddrs(v.raftAt.ID, v.raftAt.Addrs, peerstore.PermanentAddrTTL)
	return h
}

// join makes a host's peer a member.
func (v *victim) join(t testing.TB, h host.Host) {
	t.Helper()
	_, err := rpc.NewClient(rpc.NewTransport(h)).AskToJoin(t.Context(), v.at.ID, api.JoinRequest{Credential: v.token.Credential,
		Version: "test", Protocol: api.RPCProtocol, Time: time.Now(), Member: api.Member{ID: h.ID(), Name: "member", CommandVersion: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	v.member = h.ID()
}

// offered are the protocols of a peer's host.
func (v *victim) offered() []protocol.ID {
	all := v.daemon.host.Mux().Protocols()
	slices.Sort(all)
	return all
}

// say sends bytes in a protocol and waits for the end of what is answered.
func (v *victim) say(t testing.TB, from host.Host, id protocol.ID, data []byte) {
	t.Helper()
	to := v.at.ID
	if id == libp2ptransport.Protocol {
		to = v.raftAt.ID
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := from.NewStream(ctx, to, id)
	if err != nil {
		if err := v.alive(t, from); err != nil {
			t.Fatal(err)
		}
		return
	}
	defer s.Reset()
	_ = s.SetDeadline(time.Now().Add(2 * time.Second))
	go func() {
		_, _ = s.Write(data) // it may be refused before its end
		_ = s.CloseWrite()
	}()
	_, _ = io.Copy(io.Discard, io.LimitReader(s, 1<<20))
}

// alive asks the victim for something that anybody may.
func (v *victim) alive(t testing.TB, from host.Host) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := rpc.NewClient(rpc.NewTransport(from)).Standing(ctx, v.at.ID)
	if api.CodeOf(err) == api.CodeRateLimited {
		return nil
	}
	return err
}

// A peer's host offers these protocols and no others; the fuzzers know them all.
func TestOfferedProtocols(t *testing.T) {
	v := startVictim(t)
	want := []protocol.ID{api.JoinProtocol, libp2ptransport.Protocol, api.RPCProtocol, "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0"}
	if got := v.offered(); !slices.Equal(got, want) {
		t.Errorf("offered %v, want %v", got, want)
	}
	stranger, member := v.host(t), v.host(t)
	v.join(t, member)
	for _, from := range []host.Host{stranger, member} {
		for _, id := range want {
			for _, data := range seeds(t) {
				v.say(t, from, id, data)
			}
		}
		if err := v.alive(t, from); err != nil {
			t.Error(err)
		}
	}
}

func msgpackOf(t testing.TB, values ...any) []byte {
	var out bytes.Buffer
	for _, value := range values {
		if err := codec.NewEncoder(&out, new(codec.MsgpackHandle)).Encode(value); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// seeds begin a corpus: honest messages, and hostile ones.
func seeds(t testing.TB) [][]byte {
	name := func(service, method string) map[string]string {
		return map[string]string{"Name": service, "Method": method}
	}
	ask := `{"standing":{}}`
	deep := bytes.Repeat([]byte{0x91}, 300_000)
	return [][]byte{
		nil,
		msgpackOf(t, name("Cluster", "LocalID"), map[string]any{}),
		msgpackOf(t, name("Cluster", "Pin"), map[string]any{"Cid": []byte{1, 2, 3}}),
		msgpackOf(t, name("Tracker", "StatusEach"), map[string]any{"Filter": 1, "Limit": 5}),
		msgpackOf(t, name("Node", "PutBlocks"), map[string]any{"Blocks": []any{map[string]any{"Data": []byte("x")}}, "End": true}),
		msgpackOf(t, name("Monitor", "Report"), map[string]any{"Name": "x", "Tags": map[string]string{"a": "b"}}),
		append(binary.BigEndian.AppendUint32(nil, uint32(len(ask))), ask...),
		append([]byte{0}, msgpackOf(t, map[string]any{"Term": 1, "Entries": []any{map[string]any{"Data": []byte("x")}}})...),
		append([]byte{1}, msgpackOf(t, map[string]any{"Term": 1})...),
		append([]byte{2}, msgpackOf(t, map[string]any{"Term": 1, "Size": 3})...),
		deep,
		append([]byte{0, 0x81, 0xa1, 'x'}, deep...),
		append([]byte{2, 0x81, 0xa1, 'x'}, deep...),
		{0xdb, 0x7f, 0xff, 0xff, 0xff},
		{0, 0x81, 0xa1, 'x', 0xdb, 0x7f, 0xff, 0xff, 0xff},
		{0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0},
	}
}

func fuzz(f *testing.F, member bool) {
	for _, data := range seeds(f) {
		for id := range byte(5) {
			f.Add(id, data)
		}
	}
	v := startVictim(f)
	from := v.host(f)
	if member {
		v.join(f, from)
	}
	said := 0
	f.Fuzz(func(t *testing.T, id byte, data []byte) {
		offered := v.offered()
		v.say(t, from, offered[int(id)%len(offered)], data)
		if said++; said%100 == 0 {
			if err := v.alive(t, from); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzStranger says anything in every protocol, as one who knows only the
// swarm's secret.
func FuzzStranger(f *testing.F) { fuzz(f, false) }

// FuzzMember says anything in every protocol, as a member.
func FuzzMember(f *testing.F) { fuzz(f, true) }

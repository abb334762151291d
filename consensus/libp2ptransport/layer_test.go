package libp2ptransport_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"holdfast/consensus"
	"holdfast/consensus/libp2ptransport"
)

// counterMachine counts commands; its checkpoints are never asked for.
type counterMachine struct {
	mu    sync.Mutex
	index uint64
	count int
}

func (m *counterMachine) Apply(index uint64, commands [][]byte) ([]any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index = index
	results := make([]any, len(commands))
	for i := range commands {
		m.count++
		results[i] = m.count
	}
	return results, nil
}

func (m *counterMachine) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index
}

func (m *counterMachine) Checkpoint(string) error { return fmt.Errorf("not expected") }
func (m *counterMachine) Restore(string) error    { return fmt.Errorf("not expected") }

func newHost(t *testing.T) host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// Three peers over real streams elect, agree, and elect again when the leader
// goes; a host that is not allowed gets nowhere.
func TestClusterOverLibp2p(t *testing.T) {
	var hosts []host.Host
	var ids []peer.ID
	for range 3 {
		h := newHost(t)
		hosts, ids = append(hosts, h), append(ids, h.ID())
	}
	known := func(id peer.ID) bool { return id == ids[0] || id == ids[1] || id == ids[2] }
	logs := map[peer.ID]*consensus.Log{}
	stop := map[peer.ID]func(){}
	leads := make(chan peer.ID, 10)
	for _, h := range hosts {
		for _, other := range hosts {
			h.Peerstore().AddAddrs(other.ID(), other.Addrs(), peerstore.PermanentAddrTTL)
		}
		layer, err := libp2ptransport.Listen(h, known)
		if err != nil {
			t.Fatal(err)
		}
		store := raft.NewInmemStore()
		log, err := consensus.New(consensus.Config{ID: h.ID(), Dir: "/consensus"}, consensus.Deps{
			Machine: &counterMachine{}, Transport: consensus.NewTransport(consensus.TransportConfig{Layer: layer}),
			Logs: store, Stable: store, FS: vfs.NewMem(),
			Lead: func(ctx context.Context) { leads <- h.ID(); <-ctx.Done() },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Bootstrap(ids); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- log.Run(ctx) }()
		var once sync.Once
		stop[h.ID()] = func() {
			once.Do(func() {
				cancel()
				if err := <-done; err != nil {
					t.Errorf("run: %v", err)
				}
			})
		}
		defer stop[h.ID()]()
		logs[h.ID()] = log
	}

	first := waitLead(t, leads)
	propose(t, logs[first], 1)
	stop[first]()
	second := waitLead(t, leads)
	if second == first {
		t.Fatal("the stopped peer leads again")
	}
	propose(t, logs[second], 2)

	stranger := newHost(t)
	stranger.Peerstore().AddAddrs(second, hosts[0].Peerstore().Addrs(second), peerstore.PermanentAddrTTL)
	layer, err := libp2ptransport.Listen(stranger, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	conn, err := layer.Dial(raft.ServerAddress(second.String()), 5*time.Second)
	if err == nil { // the stream may be negotiated only when it is used
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = conn.Write([]byte{0})
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Fatalf("a stranger read %d bytes", n)
		}
	}
}

func waitLead(t *testing.T, leads <-chan peer.ID) peer.ID {
	t.Helper()
	select {
	case id := <-leads:
		return id
	case <-time.After(20 * time.Second):
		t.Fatal("nobody leads")
		return ""
	}
}

func propose(t *testing.T, log *consensus.Log, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, result, err := log.Propose(ctx, []byte("x"))
	if err != nil || result != want {
		t.Fatalf("propose: %v, %v; want %d", result, err, want)
	}
}

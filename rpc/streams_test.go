package rpc

import (
	"context"
	"iter"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// streaming peers give as many items as they are told and then end, or wait
// until they are called off.
type streamer struct {
	answering
	items   int
	hangs   bool
	running atomic.Int32
}

func (s *streamer) each(ctx context.Context, item func() bool) {
	s.running.Add(1)
	defer s.running.Add(-1)
	for range s.items {
		if !item() {
			return
		}
	}
	if s.hangs {
		<-ctx.Done()
	}
}

func (s *streamer) LocalStatusAll(ctx context.Context, _ api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return func(yield func(api.PinInfo, error) bool) {
		s.each(ctx, func() bool { return yield(api.PinInfo{}, nil) })
	}
}

func (s *streamer) LocalRecoverAll(ctx context.Context) iter.Seq2[api.PinInfo, error] {
	return s.LocalStatusAll(ctx, api.StatusQuery{})
}

func (s *streamer) CollectGarbage(ctx context.Context, emit func(api.RepoGCKey)) error {
	s.each(ctx, func() bool { emit(api.RepoGCKey{}); return true })
	return ctx.Err()
}

func (s *streamer) PutBlocks(ctx context.Context, blocks []api.Block) error {
	s.each(ctx, func() bool { return true })
	return ctx.Err()
}

// streams are all that there are, read to their end or until stop says so.
func streams(ctx context.Context, c *Client, to peer.ID, stop func(items int) bool) map[string]func() (int, error) {
	read := func(items iter.Seq2[api.PinInfo, error]) func() (int, error) {
		return func() (n int, err error) {
			for _, err := range items {
				if err != nil {
					return n, err
				}
				if n++; stop(n) {
					break
				}
			}
			return n, nil
		}
	}
	older := func(method string) iter.Seq2[api.PinInfo, error] {
		if method == "StatusAll" {
			return stream[api.StatusQuery, api.PinInfo](ctx, c, to, serviceTracker, method, api.StatusQuery{})
		}
		return stream[Nothing, api.PinInfo](ctx, c, to, serviceTracker, method, Nothing{})
	}
	return map[string]func() (int, error){
		"StatusEach":  read(c.StatusAll(ctx, to, api.StatusQuery{})),
		"RecoverEach": read(c.RecoverAll(ctx, to)),
		"StatusAll":   read(older("StatusAll")),
		"RecoverAll":  read(older("RecoverAll")),
		"CollectGarbage": func() (int, error) {
			result, err := c.RepoGC(ctx, to)
			stop(len(result.Keys))
			return len(result.Keys), err
		},
		"PutBlocks": func() (int, error) {
			s := c.OpenBlocks(ctx, to)
			for n := 1; n <= 600; n++ {
				if err := s.Put([]api.Block{{Cid: api.Cid{}}}); err != nil {
					_ = s.Close()
					return n, err
				}
				if stop(n) {
					s.Abort()
					return n, nil
				}
			}
			return 600, s.Close()
		},
	}
}

// settled waits until no more goroutines run than before, and nothing is held
// of the streams of either side.
func settled(t *testing.T, what string, goroutines int, hosts ...host.Host) {
	t.Helper()
	open := func() (n int) {
		for _, h := range hosts {
			for _, conn := range h.Network().Conns() {
				for _, s := range conn.GetStreams() {
					if s.Protocol() == api.RPCProtocol {
						n++
					}
				}
			}
		}
		return n
	}
	deadline, tick := time.After(10*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > goroutines || open() > 0 {
		select {
		case <-tick.C:
		case <-deadline:
			buf := make([]byte, 1<<20)
			text := string(buf[:runtime.Stack(buf, true)])
			for _, g := range strings.Split(text, "\n\n") {
				if strings.Contains(g, "gorpc") || strings.Contains(g, "holdfast") {
					t.Log(g)
				}
			}
			t.Fatalf("%s: %d goroutines of %d, %d streams are left", what, runtime.NumGoroutine(), goroutines, open())
		}
	}
}

// Every stream ends for both sides, whichever way it ends, and leaves nothing
// behind: read to its end, left in the middle, called off while the other side
// is silent, and cut off.
func TestStreamsEnd(t *testing.T) {
	caller, callee := newHost(t), newHost(t)
	caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
	f := &streamer{items: 600}
	services := Services{Cluster: f, Joiner: f, Tracker: f, Monitor: f, Node: f}
	if _, err := Serve(callee, services, func(peer.ID) Role { return Voter }); err != nil {
		t.Fatal(err)
	}
	c := NewClient(NewTransport(caller))
	if _, err := c.ReadIndex(t.Context(), callee.ID()); err != nil {
		t.Fatal(err)
	}
	never := func(int) bool { return false }
	var before int
	settle := func(what string) { t.Helper(); settled(t, what, before, caller, callee) }
	before = runtime.NumGoroutine() + 2
	for name, read := range streams(t.Context(), c, callee.ID(), never) {
		if n, err := read(); err != nil || n != 600 {
			t.Errorf("%s: %d items, %v", name, n, err)
		}
		settle(name + " to its end")
	}
	for name, read := range streams(t.Context(), c, callee.ID(), func(n int) bool { return n == 10 }) {
		if _, err := read(); err != nil {
			t.Errorf("%s left: %v", name, err)
		}
		settle(name + " left in the middle")
	}
	f.hangs = true
	for name := range streams(t.Context(), c, callee.ID(), never) {
		if name == "StatusAll" || name == "RecoverAll" {
			continue // what is only written to notices when it is written to
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() {
			if _, err := streams(ctx, c, callee.ID(), never)[name](); err == nil {
				t.Errorf("%s called off: taken for whole", name)
			}
		})
		for f.running.Load() == 0 {
			runtime.Gosched()
		}
		cancel()
		done.Wait()
		settle(name + " called off")
	}
}

// A peer that dies, and one that ends its answer cleanly before the end of the
// list, has not answered.
func TestStreamsBreak(t *testing.T) {
	for _, how := range []string{"reset", "closed", "connection"} {
		caller, callee := newHost(t), newHost(t)
		caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
		callee.SetStreamHandler(api.RPCProtocol, func(s network.Stream) {
			_, _ = s.Read(make([]byte, 1))
			_, _ = s.Write(encoded(t, map[string]any{}, map[string]any{"Items": []any{map[string]any{}}}))
			switch how {
			case "reset":
				_ = s.Reset()
			case "closed":
				_ = s.Close()
			case "connection":
				_ = s.Conn().Close()
			}
		})
		c := NewClient(NewTransport(caller))
		for name, read := range streams(t.Context(), c, callee.ID(), func(int) bool { return false }) {
			if name == "StatusAll" || name == "RecoverAll" {
				continue // the older ones cannot tell
			}
			if _, err := read(); api.CodeOf(err) != api.CodeUnavailable {
				t.Errorf("%s, %s: %v", name, how, err)
			}
		}
	}
}

package adder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"holdfast/api"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// A node of Kubo leaves these behind when it is closed.
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreAnyFunction("github.com/ipfs/boxo/routing/http/client.(*measurement).record"))
}

// TestADestinationFails breaks one or more of three destinations at every
// moment of an add.
func TestADestinationFails(t *testing.T) {
	full := api.Errorf(api.CodeNoSpace, "the disk is full")
	gone := errors.New("connection reset")
	config := Config{BatchBytes: 256 << 10}
	for at := -1; at < 20; at++ {
		for _, c := range []struct {
			name    string
			minimum int
			broken  map[peer.ID]error
			code    api.Code // "": the add succeeds
		}{
			{"one of three, two must stand", 2, map[peer.ID]error{second: full}, ""},
			{"two of three, two must stand", 2, map[peer.ID]error{first: gone, third: full}, api.CodeNoSpace},
			{"all", 1, map[peer.ID]error{first: gone, second: gone, third: gone}, api.CodeUnavailable},
			{"two of three, one must stand", 1, map[peer.ID]error{first: gone, second: full}, ""},
		} {
			t.Run(fmt.Sprintf("%s, at batch %d", c.name, at), func(t *testing.T) {
				w := newWorld(c.minimum, first, second, third)
				w.fault = func(id peer.ID, put int) error {
					if put == at {
						return c.broken[id]
					}
					return nil
				}
				_, err := w.added(t.Context(), config, upload(t, tree()), api.NewAddParams())
				if api.CodeOf(err) != c.code {
					t.Fatalf("code %q of %v, want %q", api.CodeOf(err), err, c.code)
				}
				if c.code != "" {
					if len(w.pins) != 0 {
						t.Errorf("a failed add pinned %+v", w.pins)
					}
				} else {
					for _, id := range w.pins[0].Allocations {
						if c.broken[id] != nil || len(w.stores[id]) != 23 {
							t.Errorf("pinned to %s, which has %d blocks", id, len(w.stores[id]))
						}
					}
					if len(w.pins[0].Allocations) != 3-len(c.broken) {
						t.Errorf("allocations %v", w.pins[0].Allocations)
					}
				}
				for id, open := range w.open {
					if open != 0 {
						t.Errorf("%s has %d destinations open", id, open)
					}
				}
			})
		}
	}
}

func TestTheClusterRefuses(t *testing.T) {
	few := api.Errorf(api.CodeNotEnoughPeers, "2 are needed, 1 is up")
	t.Run("to allocate", func(t *testing.T) {
		w := newWorld(1, first)
		w.allocate = few
		if _, err := w.added(t.Context(), Config{}, upload(t, tree()), api.NewAddParams()); !errors.Is(err, api.ErrNotEnoughPeers) || len(w.stores) != 0 {
			t.Error(err)
		}
	})
	t.Run("to pin", func(t *testing.T) {
		w := newWorld(1, first)
		w.pinError = few
		out, err := w.added(t.Context(), Config{}, upload(t, tree()), api.NewAddParams())
		if !errors.Is(err, api.ErrNotEnoughPeers) {
			t.Error(err)
		}
		for _, o := range out {
			if o.Name == "d" {
				t.Error("the root was told of, and is not pinned")
			}
		}
	})
	t.Run("fewer peers than must stand", func(t *testing.T) {
		w := newWorld(2, first)
		if _, err := w.added(t.Context(), Config{}, upload(t, tree()), api.NewAddParams()); !errors.Is(err, api.ErrNotEnoughPeers) || len(w.pins) != 0 {
			t.Error(err)
		}
	})
}

// TestASlowDestinationHoldsTheUploadBack checks that memory stays bounded: while
// one destination takes nothing, no more of the upload is read than fits the
// queue.
func TestASlowDestinationHoldsTheUploadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunk, queue = 256 << 10, 4
		w := newWorld(2, first, second)
		release := make(chan struct{})
		w.hold = func(ctx context.Context, id peer.ID) error {
			if id == second {
				<-release
			}
			return nil
		}
		var read atomic.Int64
		endless := &counting{from: bytes.NewReader(noise(5, 16<<20)), count: &read}
		body, boundary := stream(endless)
		done := make(chan error, 1)
		go func() {
			done <- w.adder(Config{BatchBytes: chunk, QueueBatches: queue}).Add(t.Context(), multipart.NewReader(body, boundary), api.NewAddParams(), func(api.AddedOutput) error { return nil })
		}()
		synctest.Wait()
		// What waits, what is being put, what fills, and what the readers hold.
		if got := read.Load(); got == 0 || got > chunk*(queue+4) {
			t.Errorf("%d bytes were read while a destination stood still", got)
		}
		close(release)
		if err := <-done; err != nil || len(w.pins) != 1 {
			t.Errorf("%v, %d pins", err, len(w.pins))
		}
	})
}

// TestAStalledDestinationIsDropped lets one destination hang until its context
// ends.
func TestAStalledDestinationIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1, first, second)
		w.hold = func(ctx context.Context, id peer.ID) error {
			if id == second {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		begin := time.Now()
		if _, err := w.added(t.Context(), Config{StallTimeout: 7 * time.Second}, upload(t, tree()), api.NewAddParams()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 7*time.Second || len(w.pins[0].Allocations) != 1 {
			t.Errorf("took %v, pinned to %v", took, w.pins[0].Allocations)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2, first, second)
		w.hold = func(ctx context.Context, _ peer.ID) error { <-ctx.Done(); return ctx.Err() }
		_, err := w.added(t.Context(), Config{}, upload(t, tree()), api.NewAddParams())
		if !errors.Is(err, api.ErrUnavailable) || !errors.Is(err, errStalled) {
			t.Error(err)
		}
	})
}

// TestAborts ends uploads in the middle, a thousand times: nothing is pinned
// and nothing is left running.
func TestAborts(t *testing.T) {
	data := noise(9, 2<<20)
	times := 1000
	if raced {
		times = 150
	}
	for i := range times {
		w := newWorld(1, first, second)
		ctx, cancel := context.WithCancel(t.Context())
		cut := (i * 2113) % len(data)
		var from io.Reader
		switch i % 3 {
		case 0: // the connection breaks
			from = io.MultiReader(bytes.NewReader(data[:cut]), iotest.ErrReader(io.ErrUnexpectedEOF))
		case 1: // the client goes away: its context ends
			from = io.MultiReader(bytes.NewReader(data[:cut]), readerFunc(func() error { cancel(); return errors.New("closed") }))
		case 2: // the client stops to listen
			from = bytes.NewReader(data)
		}
		body, boundary := stream(from)
		params := api.NewAddParams()
		params.Progress = true
		heard := 0
		err := w.adder(Config{BatchBytes: 64 << 10}).Add(ctx, multipart.NewReader(body, boundary), params, func(api.AddedOutput) error {
			if heard++; i%3 == 2 && heard > 2 {
				return errors.New("broken pipe")
			}
			return nil
		})
		cancel()
		if err == nil || len(w.pins) != 0 || w.leases != 0 {
			t.Fatalf("run %d: %v, %d pins, %d leases", i, err, len(w.pins), w.leases)
		}
		if want := []api.Code{api.CodeInvalid, api.CodeUnavailable, api.CodeInvalid}[i%3]; api.CodeOf(err) != want {
			t.Fatalf("run %d: code %s of %v", i, api.CodeOf(err), err)
		}
		for id, open := range w.open {
			if open != 0 {
				t.Fatalf("run %d: %s has %d destinations open", i, id, open)
			}
		}
	}
}

func TestAddsDoNotDisturbOneAnother(t *testing.T) {
	w := newWorld(1, first)
	a := w.adder(Config{})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			up := parts(t, part{fmt.Sprint(i), bytes.NewReader(noise(uint64(i), 1<<20))})
			if err := a.Add(t.Context(), up, api.NewAddParams(), func(api.AddedOutput) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(w.pins) != 8 {
		t.Errorf("%d pins", len(w.pins))
	}
}

func TestBlocksAreSentOnce(t *testing.T) {
	w := newWorld(1, first)
	params := api.NewAddParams()
	params.RawLeaves, params.CidVersion = true, 1
	if _, err := w.added(t.Context(), Config{}, parts(t, part{"zeros", strings.NewReader(strings.Repeat("\x00", 32<<20))}), params); err != nil {
		t.Fatal(err)
	}
	if w.blocks[first] != 2 {
		t.Errorf("%d blocks were sent for one chunk 128 times and a root", w.blocks[first])
	}
}

type counting struct {
	from  io.Reader
	count *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.count.Add(int64(n))
	return n, err
}

type readerFunc func() error

func (f readerFunc) Read([]byte) (int, error) { return 0, f() }

// stream is an upload of one file that is read only as it is asked for.
func stream(from io.Reader) (io.Reader, string) {
	const boundary = "between"
	head := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\n"
	return io.MultiReader(strings.NewReader(head), from, strings.NewReader("\r\n--"+boundary+"--\r\n")), boundary
}

// TestAnEndedAddHoldsNothing ends an add whose client sends nothing any more, as
// the HTTP front does: the upload breaks and the context ends. Nothing holds off
// garbage collection from then on, here or at the destinations.
func TestAnEndedAddHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2, self, first)
		w.hold = func(ctx context.Context, _ peer.ID) error { <-ctx.Done(); return ctx.Err() }
		from, client := io.Pipe()
		body, boundary := stream(from)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- w.adder(Config{BatchBytes: 1, StallTimeout: time.Hour}).Add(ctx, multipart.NewReader(body, boundary), api.NewAddParams(), func(api.AddedOutput) error { return nil })
		}()
		if _, err := client.Write(noise(7, 1<<20)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if w.leases != 1 || w.open[self] != 1 || w.open[first] != 1 {
			t.Fatalf("%d leases, destinations %v", w.leases, w.open)
		}
		begin := time.Now()
		cancel()
		client.CloseWithError(io.ErrUnexpectedEOF)
		if err := <-done; err == nil {
			t.Error("the add succeeded")
		}
		if took := time.Since(begin); took != 0 || w.leases != 0 || w.open[self] != 0 || w.open[first] != 0 {
			t.Errorf("after %s: %d leases, destinations %v", took, w.leases, w.open)
		}
	})
}

// TestASlowAddShowsThatItLives has a client pause for longer than destinations
// wait in silence.
func TestASlowAddShowsThatItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1, first)
		var last time.Time
		var longest time.Duration
		w.hold = func(context.Context, peer.ID) error {
			if !last.IsZero() {
				longest = max(longest, time.Since(last))
			}
			last = time.Now()
			return nil
		}
		pause := readerFunc(func() error { time.Sleep(time.Hour); return io.EOF })
		body, boundary := stream(io.MultiReader(bytes.NewReader(noise(8, 4<<20)), pause, bytes.NewReader(noise(9, 4<<20))))
		err := w.adder(Config{}).Add(t.Context(), multipart.NewReader(body, boundary), api.NewAddParams(), func(api.AddedOutput) error { return nil })
		if err != nil || len(w.pins) != 1 {
			t.Errorf("%v, %d pins", err, len(w.pins))
		}
		if longest == 0 || longest > keepAlive {
			t.Errorf("a destination heard nothing for %s", longest)
		}
	})
}

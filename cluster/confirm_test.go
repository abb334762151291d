package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
)

// Whoever asks for nonsense is refused by a leader that is sure to lead, which
// costs an entry of the log; a thousand at once, or one in a loop, cost a few.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	join := func(c *Cluster) error {
		_, err := c.Join(context.Background(), api.JoinRequest{Credential: "bad", Protocol: api.RPCProtocol, Time: time.Now(),
			Member: api.Member{ID: testPeer(50), Name: "new"}})
		return err
	}
	for name, refused := range map[string]func(*Cluster) error{
		"a bad token": join,
		"an update of nothing": func(c *Cluster) error {
			_, err := c.Pin(context.Background(), pinRequest(testCid(1), api.PinOptions{PinUpdate: testCid(2)}))
			return err
		},
		"a past expiry": func(c *Cluster) error {
			_, err := c.Allocate(context.Background(), api.PinOptions{ExpireAt: time.Unix(1, 0)})
			return err
		},
		"a standing": func(c *Cluster) error {
			standing, err := c.Standing(context.Background(), testPeer(50))
			if err == nil && !standing.Member {
				err = api.Errorf(api.CodeNotFound, "no member")
			}
			return err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, nil)
			w.reading = 5 * time.Millisecond
			before := w.index
			var asking sync.WaitGroup
			for range 1000 {
				asking.Go(func() {
					switch code := api.CodeOf(refused(w.cluster)); code {
					case api.CodeForbidden, api.CodeNotFound, api.CodeInvalid:
					default:
						t.Errorf("%s: refused with %q", name, code)
					}
				})
			}
			asking.Wait()
			if cost := w.index - before; cost == 0 || cost > 3 {
				t.Errorf("%s: a thousand at once cost %d entries", name, cost)
			}
			before = w.index
			begun := time.Now()
			for range 100 {
				_ = refused(w.cluster)
			}
			if most := uint64(time.Since(begun)/confirmPause) + 1; w.index-before > most || time.Since(begun) < 5*time.Second {
				t.Errorf("%s: a hundred one after the other cost %d entries in %s", name, w.index-before, time.Since(begun))
			}
		})
	}
}

// One that was begun before a question came does not answer it, and one who gives
// up takes nobody with it.
func TestConfirmations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun uint64
		c := newConfirmations(func(ctx context.Context) (uint64, error) {
			begun++
			index := begun
			if !sleep(ctx, time.Second) {
				return 0, api.Errorf(api.CodeUnavailable, "called off: %w", ctx.Err())
			}
			return index, nil
		})
		get := func(ctx context.Context, want uint64) func() {
			return func() {
				if got, err := c.get(ctx); err != nil || got != want {
					t.Errorf("confirmed by %d, %v; want %d", got, err, want)
				}
			}
		}
		var asking sync.WaitGroup
		asking.Go(get(t.Context(), 1))
		time.Sleep(500 * time.Millisecond)
		for range 10 {
			asking.Go(get(t.Context(), 2))
		}
		asking.Wait()
		if begun != 2 {
			t.Errorf("%d were begun", begun)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		asking.Go(func() {
			if _, err := c.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("who gave up got %v", err)
			}
		})
		time.Sleep(confirmPause / 2) // its turn, and it waits or asks
		for range 10 {
			asking.Go(get(t.Context(), 4))
		}
		asking.Wait()

		deposed := newConfirmations(func(context.Context) (uint64, error) {
			return 0, api.Errorf(api.CodeNoLeader, "deposed")
		})
		if _, err := deposed.get(t.Context()); api.CodeOf(err) != api.CodeNoLeader || !strings.Contains(err.Error(), "deposed") {
			t.Errorf("a deposed leader confirms %v", err)
		}
	})
}

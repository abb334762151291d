package state_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/state"
)

// TestReadersDuringApplyAndRestore: every entry pins two CIDs or unpins two,
// and no reader ever sees one of them.
func TestReadersDuringApplyAndRestore(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	apply(t, p, 1, state.InitClusterCommand{ClusterID: "c", Member: testMember(1)}.Encode())
	if err := p.Checkpoint("empty"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	read := func(fn func() error) {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := fn(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, filter := range []api.PinFilter{{}, {Peer: testPeer(1)}} {
		read(func() error {
			n := 0
			for _, err := range p.Pins(filter) {
				if err != nil {
					return err
				}
				n++
			}
			if n%2 != 0 {
				return fmt.Errorf("%d pins of %+v", n, filter)
			}
			return nil
		})
	}
	read(func() error { _, _, err := p.Get(testCid(1)); return err })
	read(func() error { _, _, err := p.Hash(); return err })
	read(func() error { _, err := p.Members(); return err })
	read(func() error { _, err := p.Expired(epoch, 10); return err })
	read(func() error {
		changed := p.Changed()
		if stats := p.Stats(); stats.Pins%2 != 0 || stats.Peers[testPeer(1)] != stats.Pins {
			return fmt.Errorf("stats %+v", stats)
		}
		if _, ok := p.Changes(p.Applied()); !ok && p.Applied() != 1 {
			select {
			case <-changed: // a restore came between
			default:
				return fmt.Errorf("no changes since %d", p.Applied())
			}
		}
		return nil
	})
	for round := range 5 {
		for n := range 40 {
			index := uint64(2 + n)
			a, b := testPin(2*n, testPeer(1)), testPin(2*n+1, testPeer(1))
			commands := [][]byte{state.PinCommand{Pin: a, At: epoch}.Encode(), state.PinCommand{Pin: b, At: epoch}.Encode()}
			if n%3 == 2 {
				commands = [][]byte{
					state.UnpinCommand{Cid: testCid(2*n - 2), Expect: index - 1, At: epoch}.Encode(),
					state.UnpinCommand{Cid: testCid(2*n - 1), Expect: index - 1, At: epoch}.Encode()}
			}
			for i, result := range apply(t, p, index, commands...) {
				if result.Err != nil {
					t.Fatalf("round %d, entry %d, command %d: %v", round, index, i, result.Err)
				}
			}
		}
		if err := p.Restore("empty"); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
}

// TestCloseEndsListings: Close waits for a reader no longer than its next step.
func TestCloseEndsListings(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	for n := range uint64(10) {
		apply(t, p, n+1, state.PinCommand{Pin: testPin(int(n), testPeer(1)), At: epoch}.Encode())
	}
	closed := make(chan error)
	var last error
	n := 0
	for _, err := range p.Pins(api.PinFilter{}) {
		if last = err; err != nil {
			break
		}
		if n++; n == 3 {
			go func() { closed <- p.Close() }()
			for _, _, err := p.Get(testCid(1)); err == nil; _, _, err = p.Get(testCid(1)) {
			}
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if n != 3 || api.CodeOf(last) != api.CodeUnavailable {
		t.Errorf("%d pins were listed, then %v", n, last)
	}
	if _, err := p.Apply(11, nil); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("apply after close: %v", err)
	}
	if err := p.Restore("x"); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("restore after close: %v", err)
	}
	if _, err := p.Expired(time.Now(), 1); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("read after close: %v", err)
	}
	if p.Applied() != 10 || p.Stats().Pins != 10 {
		t.Error("what is in memory cannot be read after close")
	}
}

package state_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/state"
)

// A dump is of one index, whatever is applied while it runs.
func TestDumpIsOfOneMoment(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	for i := range 10 {
		apply(t, p, uint64(i+1), state.PinCommand{Pin: testPin(i, testPeer(1)), At: epoch}.Encode())
	}
	var index uint64
	var got []api.Pin
	err := p.Dump(func(applied uint64) error { index = applied; return nil }, func(pin api.Pin) error {
		n := len(got)
		apply(t, p, uint64(11+n), state.PinCommand{Pin: testPin(100+n, testPeer(1)), At: epoch}.Encode())
		got = append(got, pin)
		return nil
	})
	if err != nil || index != 10 || len(got) != 10 {
		t.Fatalf("%d pins at index %d, %v", len(got), index, err)
	}
	last := ""
	for _, pin := range got {
		if pin.Revision == 0 || pin.Revision > 10 || pin.Cid.KeyString() <= last {
			t.Errorf("pin %s of revision %d", pin.Cid, pin.Revision)
		}
		last = pin.Cid.KeyString()
	}
	enough := errors.New("enough")
	if err := p.Dump(func(uint64) error { return enough }, nil); !errors.Is(err, enough) {
		t.Errorf("an error of begin became %v", err)
	}
	if err := p.Dump(func(uint64) error { return nil }, func(api.Pin) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("an error of each became %v", err)
	}
}

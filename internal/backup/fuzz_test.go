package backup_test

import (
	"bytes"
	"os"
	"reflect"
	"testing"

	"holdfast/api"
	"holdfast/internal/backup"
)

// FuzzRead reads any bytes as an export. What is accepted passes every check,
// and is written and read again as the same pins.
func FuzzRead(f *testing.F) {
	for _, path := range []string{"testdata/export.v1.ndjson", "testdata/ipfs-cluster-1.1.6.ndjson"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
		for line := range bytes.Lines(data) {
			f.Add(line, false)
		}
	}
	f.Add([]byte("\x1f\x8b\x08\x00"), false)
	f.Add([]byte(`{"cid":"`+testCid(1).String()+`","reference":""}`), true)
	f.Add([]byte("null\n{}\n[]\n\"x\"\n7"), true)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		pins, summary, err := read(data, backup.Rules{Now: epoch, Whole: whole})
		if uint64(len(pins)) != summary.Pins {
			t.Errorf("%d pins, and %d are told of", len(pins), summary.Pins)
		}
		for _, pin := range pins {
			if err := pin.Validate(); err != nil || !pin.Cid.Defined() || pin.Type != api.TypeData || pin.Expired(epoch) {
				t.Errorf("%+v was accepted: %v", pin, err)
			}
		}
		if err != nil {
			return
		}
		again, _, err := read(export(t, pins), backup.Rules{Now: epoch})
		if err != nil || len(again) != len(pins) {
			t.Fatalf("written again, %d pins became %d: %v", len(pins), len(again), err)
		}
		for i := range pins {
			if first, second := comparable(pins[i]), comparable(again[i]); !reflect.DeepEqual(first, second) {
				t.Errorf("%+v became %+v", first, second)
			}
		}
	})
}

// comparable leaves out what an export does not keep apart: nothing and an
// empty list, a zone, a revision.
func comparable(pin api.Pin) api.Pin {
	pin.Revision = 0
	pin.Timestamp, pin.ExpireAt = pin.Timestamp.UTC(), pin.ExpireAt.UTC()
	if len(pin.Allocations) == 0 {
		pin.Allocations = nil
	}
	if len(pin.UserAllocations) == 0 {
		pin.UserAllocations = nil
	}
	if len(pin.Origins) == 0 {
		pin.Origins = nil
	}
	return pin
}

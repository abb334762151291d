package state_test

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"holdfast/api"
	"holdfast/state"
	"holdfast/state/statepb"
)

func noContext() context.Context { return context.Background() }

// checkable is a pinset with something in every index and memory.
func checkable(t *testing.T, fs vfs.FS) {
	p := open(t, fs, "pinset")
	full := testPin(1, testPeer(1), testPeer(2))
	full.ReplicationFactorMax = 3
	full.Metadata = map[string]string{"key": "value", "other\x00": "\xff"}
	full.ExpireAt = epoch.Add(time.Hour)
	all := testPin(2)
	all.ReplicationFactorMin, all.ReplicationFactorMax = -1, -1
	long := testPin(3, testPeer(1))
	long.Name = strings.Repeat("\x01name", 30)
	long.Type = api.TypeShard
	apply(t, p, 1, state.PinCommand{Pin: full, At: epoch, RequestID: "1"}.Encode(), state.PinCommand{Pin: all, At: epoch}.Encode())
	apply(t, p, 2, state.PinCommand{Pin: long, At: epoch, RequestID: "2"}.Encode())
	checkClean(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// problems opens a pinset and returns what the check tells.
func problems(t *testing.T, fs vfs.FS) []string {
	t.Helper()
	p := open(t, fs, "pinset")
	var out []string
	if _, err := p.Check(t.Context(), func(problem string) { out = append(out, problem) }); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

// damage changes the database of a closed pinset.
func damage(t *testing.T, fs vfs.FS, change func(db *pebble.DB) error) {
	t.Helper()
	db, err := pebble.Open("pinset/db-000001", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(change(db), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// keysBelow are the keys of the database that begin with a byte.
func keysBelow(t *testing.T, fs vfs.FS, prefix byte) (out [][]byte) {
	t.Helper()
	damage(t, fs, func(db *pebble.DB) error {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			out = append(out, slices.Clone(it.Key()))
		}
		return it.Close()
	})
	return out
}

// TestCheckFindsEveryIndexKey removes and misplaces each key of each index.
func TestCheckFindsEveryIndexKey(t *testing.T) {
	for prefix, keys := range map[byte]int{'K': 2, 'N': 3, 'T': 3, 'a': 4, 'e': 1, 'w': 1} {
		fs := vfs.NewMem()
		checkable(t, fs)
		found := keysBelow(t, fs, prefix)
		if len(found) != keys {
			t.Errorf("index %c has %d keys, want %d", prefix, len(found), keys)
		}
		for _, key := range found {
			text := hex.EncodeToString(key)
			damage(t, fs, func(db *pebble.DB) error { return db.Delete(key, pebble.Sync) })
			if got := problems(t, fs); len(got) != 1 || !strings.Contains(got[0], "lacks") || !strings.Contains(got[0], text) {
				t.Errorf("without %s: %q", text, got)
			}
			wrong := slices.Clone(key)
			wrong[1] ^= 2 // another name, time, peer or hash
			damage(t, fs, func(db *pebble.DB) error { return db.Set(wrong, nil, pebble.Sync) })
			if got := problems(t, fs); len(got) != 2 || !strings.Contains(got[1], "wrong key") {
				t.Errorf("%s moved: %q", text, got)
			}
			damage(t, fs, func(db *pebble.DB) error {
				return errors.Join(db.Delete(wrong, nil), db.Set(key, []byte("x"), pebble.Sync))
			})
			if got := problems(t, fs); len(got) != 1 || !strings.Contains(got[0], "value of 1 bytes") {
				t.Errorf("%s with a value: %q", text, got)
			}
			damage(t, fs, func(db *pebble.DB) error { return db.Set(key, nil, pebble.Sync) })
		}
		cut := []byte{prefix, 7}
		stranger := append(found[0][:len(found[0])-len(testCid(1).Bytes())], testCid(9).Bytes()...)
		damage(t, fs, func(db *pebble.DB) error {
			return errors.Join(db.Set(cut, nil, nil), db.Set(stranger, nil, pebble.Sync))
		})
		got := strings.Join(problems(t, fs), "\n")
		if strings.Count(got, "\n") != 1 || !strings.Contains(got, "damaged key") || !strings.Contains(got, "which is not pinned") {
			t.Errorf("index %c with strange keys: %s", prefix, got)
		}
	}
}

// TestCheckFindsWrongCounters changes every counter by one.
func TestCheckFindsWrongCounters(t *testing.T) {
	for want, change := range map[string]func(*statepb.Meta){
		"there are 3 pins, the counter says 4":                           func(m *statepb.Meta) { m.Pins++ },
		"there are 1 pins for every peer, the counter says 2":            func(m *statepb.Meta) { m.Everywhere++ },
		`there are 2 pins of the type "pin", the counter says 1`:         func(m *statepb.Meta) { m.Types[0]-- },
		`there are 1 pins of the type "shard-pin", the counter says 0`:   func(m *statepb.Meta) { m.Types[3] = 0 },
		"the change feed holds 3 changes, the counter says 2":            func(m *statepb.Meta) { m.Changes-- },
		"the change feed holds 2 log indexes, the counter says 3":        func(m *statepb.Meta) { m.ChangeIndexes++ },
		"the change feed holds index 1, its bounds are 1 and 2":          func(m *statepb.Meta) { m.ChangeFloor++ },
		"2 requests are remembered, the counter says 1":                  func(m *statepb.Meta) { m.Requests-- },
		"the memory of requests holds index 1, its bounds are 1 and 2":   func(m *statepb.Meta) { m.RequestFloor++ },
		"the pin " + testCid(3).String() + " has revision 2, the pinset": func(m *statepb.Meta) { m.Applied-- },
	} {
		fs := vfs.NewMem()
		checkable(t, fs)
		damage(t, fs, func(db *pebble.DB) error {
			value, closer, err := db.Get([]byte("m"))
			if err != nil {
				return err
			}
			meta := &statepb.Meta{}
			if err := errors.Join(proto.Unmarshal(value, meta), closer.Close()); err != nil {
				return err
			}
			change(meta)
			value, err = proto.Marshal(meta)
			return errors.Join(err, db.Set([]byte("m"), value, pebble.Sync))
		})
		if got := problems(t, fs); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
}

// TestCheckFindsDamagedValues: a value that cannot be read is told of, and the
// check goes on.
func TestCheckFindsDamagedValues(t *testing.T) {
	pinKey := "p" + string(testCid(1).Bytes())
	for _, c := range []struct {
		key, value string
		want       string
	}{
		{pinKey, "\xff", "the pin " + testCid(1).String() + " cannot be decoded"},
		{pinKey, "\x28\x09", "has the unknown type 9"},
		{pinKey, "\x1a\x01\x09", "allocated to peer number 9, which is not in the peer table"},
		{"px", "", "holds no CID"},
		{"n\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x07", "there are 2 pins of peer number 1, the counter says 7"},
		{"n\x00\x00\x00\x02", "", "there are 1 pins of peer number 2, and no counter"},
		{"c\x00\x00\x00\x00\x00\x00\x00\x01", "\xff", "the change feed cannot be read"},
		{"c\x00\x00\x00\x00\x00\x00\x00\x01", "\x0a\x01x", "holds 78 at index 1, which is no CID"},
		{"q\x00\x00\x00\x00\x00\x00\x00\x01", "", "outcomes"},
		{"r\x00\x00\x00\x00\x00\x00\x00\x02", "", "log index 2 brought 1 requests, and 0 of their outcomes can be read"},
	} {
		fs := vfs.NewMem()
		checkable(t, fs)
		damage(t, fs, func(db *pebble.DB) error {
			if c.value == "" && c.key != "px" {
				return db.Delete([]byte(c.key), pebble.Sync)
			}
			return db.Set([]byte(c.key), []byte(c.value), pebble.Sync)
		})
		if got := problems(t, fs); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%x = %x: want %q, got %q", c.key, c.value, c.want, got)
		}
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	fs := vfs.NewMem()
	checkable(t, fs)
	p := open(t, fs, "pinset")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Check(ctx, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

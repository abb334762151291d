package pintracker

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/internal/faultfs"
)

// faultyRecords is how many records the stores of these tests have: enough for
// tables of many blocks.
const faultyRecords = 300

// readableStore makes a store of tables and a log.
func readableStore(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s, err := openStore(fs, "tracker", 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dice := rand.New(rand.NewPCG(3, 3))
	statuses := []api.TrackerStatus{api.StatusPinned, api.StatusPinQueued, api.StatusPinError}
	for n := range faultyRecords {
		junk := make([]byte, 200) // that no compression makes smaller
		for i := range junk {
			junk[i] = byte('0' + dice.IntN(75))
		}
		rec := record{status: statuses[n%3], mode: api.ModeRecursive, name: fmt.Sprint(n), errText: string(junk), revision: uint64(n + 1)}
		if n%3 > 0 {
			rec.class, rec.due = classFresh, int64(n+1)
		}
		b := s.batch()
		if err := errors.Join(b.put(nthCid(n).KeyString(), nil, &rec), b.commit()); err != nil {
			t.Fatal(err)
		}
		if n == faultyRecords/2 || n == faultyRecords-10 { // the rest is in the log alone
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.setText(keyRepo, "repository", nil), s.close()); err != nil {
		t.Fatal(err)
	}
	return fs
}

// storeReaders are all ways to read a store, each with what it gives in words.
var storeReaders = map[string]func(*store) (string, error){
	"get": func(s *store) (string, error) {
		var out strings.Builder
		for n := 0; n < faultyRecords+20; n += 7 {
			rec, known, err := s.get(nthCid(n).KeyString())
			if err != nil {
				return "", err
			}
			fmt.Fprintln(&out, rec, known)
		}
		return out.String(), nil
	},
	"each": func(s *store) (string, error) {
		var out strings.Builder
		var cids []cid.Cid
		for n := range faultyRecords + 20 {
			cids = append(cids, nthCid(n))
		}
		err := s.each(cids, func(i int, rec record, known bool) error { fmt.Fprintln(&out, i, rec, known); return nil })
		return out.String(), err
	},
	"page": func(s *store) (string, error) {
		out, err := s.page(api.StatusUndefined, "", faultyRecords*2)
		return fmt.Sprint(out), err
	},
	"page of errors": func(s *store) (string, error) {
		out, err := s.page(api.StatusPinError, nthCid(3).KeyString(), faultyRecords*2)
		return fmt.Sprint(out), err
	},
	"queue": func(s *store) (string, error) {
		s.placed[classFresh] = true
		q := queue{class: classFresh}
		var out strings.Builder
		for {
			p, found, err := q.peek(s, faultyRecords*2)
			if err != nil || !found {
				return out.String(), err
			}
			fmt.Fprintln(&out, p)
			q.pop()
		}
	},
	"repository": func(s *store) (string, error) { return s.text(keyRepo) },
	"recount": func(s *store) (string, error) {
		before := s.kinds
		defer func() { s.kinds = before }()
		clear(s.kinds[:])
		err := s.recount()
		return fmt.Sprint(s.kinds), err
	},
}

func storeOn(fs vfs.FS) (*store, error) {
	return openStore(fs, "tracker", 1<<20, slog.New(slog.DiscardHandler))
}

func crashClone(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// Whatever goes wrong in reading, what the store tells is right or an error, and a
// fault that passes is forgotten.
func TestStoreReadFaults(t *testing.T) {
	base := readableStore(t)
	whole, err := storeOn(crashClone(base))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for name, read := range storeReaders {
		if want[name], err = read(whole); err != nil {
			t.Fatal(name, err)
		}
	}
	if err := whole.close(); err != nil {
		t.Fatal(err)
	}
	for name, read := range storeReaders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range faultfs.Kinds {
				for n, hits := 0, 1; hits > 0 && !t.Failed(); n++ {
					fs := faultfs.New(crashClone(base))
					s, err := storeOn(fs)
					if err != nil {
						t.Fatal(err)
					}
					fs.Set(faultfs.Plan{Kind: kind, After: n, Seed: uint64(n)})
					got, err := read(s)
					_, hits = fs.Counts()
					fs.Heal()
					if err == nil && got != want[name] {
						t.Errorf("read %d with %s gave other data, and no error", n, kind)
					}
					if again, err := read(s); err != nil || again != want[name] {
						t.Errorf("read %d with %s: after the fault is gone: %v", n, kind, err)
					}
					if err := s.close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// A store that is opened over a disk with faults is right, or behind (which the
// diff at the start repairs), or not opened; it is there when the fault is gone.
func TestStoreReadFaultsAtOpen(t *testing.T) {
	base := readableStore(t)
	records := map[string]string{}
	whole, err := storeOn(crashClone(base))
	if err != nil {
		t.Fatal(err)
	}
	all, err := whole.page(api.StatusUndefined, "", faultyRecords*2)
	if err := errors.Join(err, whole.close()); err != nil || len(all) != faultyRecords {
		t.Fatal(len(all), err)
	}
	for _, e := range all {
		records[e.cid] = fmt.Sprint(e.rec)
	}
	for _, kind := range faultfs.Kinds {
		for n, hits := 0, 1; hits > 0 && !t.Failed(); n++ {
			fs := faultfs.New(crashClone(base))
			fs.Set(faultfs.Plan{Kind: kind, After: n, Seed: uint64(n)})
			s, err := storeOn(fs)
			_, hits = fs.Counts()
			fs.Heal()
			if err != nil {
				if s, err = storeOn(fs); err != nil {
					t.Errorf("read %d with %s: not opened when the fault is gone: %v", n, kind, err)
					continue
				}
			}
			found, err := s.page(api.StatusUndefined, "", faultyRecords*2)
			if err != nil || uint64(len(found)) != s.records(api.StatusUndefined) {
				t.Errorf("read %d with %s: %d records, and %d are counted; %v", n, kind, len(found), s.records(api.StatusUndefined), err)
			}
			for _, e := range found {
				if fmt.Sprint(e.rec) != records[e.cid] {
					t.Errorf("read %d with %s: another record of %x", n, kind, e.cid)
				}
			}
			if err := s.close(); err != nil {
				t.Error(err)
			}
		}
	}
}

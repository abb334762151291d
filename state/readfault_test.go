package state_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/internal/faultfs"
	"holdfast/state"
)

// faultyPins is how many pins the pinsets of these tests have: enough for tables
// of many blocks.
const faultyPins = 240

// readBase makes a pinset of tables and a log, and returns its hash at each index.
func readBase(t *testing.T) (*vfs.MemFS, map[uint64]string) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	p, err := state.Open(fs, "pinset")
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[uint64]string{0: mustHash(t, p)}
	index := uint64(0)
	next := func(commands ...[]byte) {
		index++
		for _, answer := range apply(t, p, index, commands...) {
			if answer.Err != nil {
				t.Fatal(answer.Err)
			}
		}
		hashes[index] = mustHash(t, p)
	}
	next(state.InitClusterCommand{ClusterID: "c", Member: testMember(1)}.Encode(), state.CreateTokenCommand{Hash: [32]byte{1}, ExpiresAt: epoch}.Encode())
	dice := rand.New(rand.NewPCG(9, 9))
	for n := 0; n < faultyPins; {
		var commands [][]byte
		for ; n < faultyPins && len(commands) < 50; n++ {
			commands = append(commands, faultyPin(n, dice).Encode())
		}
		next(commands...)
		if n == faultyPins/2 {
			if err := p.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 3 { // in the log alone
		next(faultyPin(faultyPins+n, dice).Encode())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return fs, hashes
}

func faultyPin(n int, dice *rand.Rand) state.PinCommand {
	pin := testPin(n, testPeer(n%3+1))
	junk := make([]byte, 120) // that no compression makes smaller
	for i := range junk {
		junk[i] = byte('0' + dice.IntN(75))
	}
	pin.Name = fmt.Sprintf("pin %d", n%7)
	pin.Metadata = map[string]string{"k": fmt.Sprint(n % 5), "junk": string(junk)}
	pin.ReplicationFactorMax = 2
	if n%4 == 0 {
		pin.ExpireAt = epoch.Add(time.Duration(n) * time.Minute)
	}
	return state.PinCommand{Pin: pin, At: epoch.Add(time.Duration(n) * time.Second), RequestID: fmt.Sprint("request ", n)}
}

func cloneOf(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// collect is what a listing gives, in words.
func collect(pins func(func(api.Pin, error) bool)) (string, error) {
	var out strings.Builder
	for pin, err := range pins {
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&out, pin.Cid, pin.Revision, pin.Name)
	}
	return out.String(), nil
}

func someCids() []cid.Cid {
	var cids []cid.Cid
	for n := 0; n < faultyPins+40; n += 9 {
		cids = append(cids, testCid(n))
	}
	return cids
}

// readers are all ways to read a pinset.
var readers = map[string]func(*state.Pinset) (string, error){
	"get": func(p *state.Pinset) (string, error) {
		var out strings.Builder
		for _, c := range someCids() {
			pin, found, err := p.Get(c)
			if err != nil {
				return "", err
			}
			fmt.Fprintln(&out, c, found, pin.Revision, pin.Name)
		}
		return out.String(), nil
	},
	"get many": func(p *state.Pinset) (string, error) {
		cids := someCids()
		pins := make([]api.Pin, len(cids))
		if err := p.GetMany(cids, pins); err != nil {
			return "", err
		}
		return fmt.Sprint(pins), nil
	},
	"list":         func(p *state.Pinset) (string, error) { return collect(p.Pins(api.PinFilter{})) },
	"page":         func(p *state.Pinset) (string, error) { return collect(p.Pins(api.PinFilter{Name: "pin 3", Limit: 20})) },
	"list of peer": func(p *state.Pinset) (string, error) { return collect(p.Pins(api.PinFilter{Peer: testPeer(2)})) },
	"list of three": func(p *state.Pinset) (string, error) {
		return collect(p.Pins(api.PinFilter{Name: "pin 3", Peer: testPeer(1), Meta: map[string]string{"k": "2"}}))
	},
	"list of prefix": func(p *state.Pinset) (string, error) { return collect(p.Pins(api.PinFilter{NamePrefix: "pin"})) },
	"list of time": func(p *state.Pinset) (string, error) {
		return collect(p.Pins(api.PinFilter{CreatedAfter: epoch.Add(30 * time.Second), CreatedBefore: epoch.Add(5 * time.Minute), Name: "pin 1"}))
	},
	"newest": func(p *state.Pinset) (string, error) {
		return collect(p.Newest(context.Background(), api.PinFilter{Limit: 50}))
	},
	"wanting": func(p *state.Pinset) (string, error) { return collect(p.WantingReplicas(3)) },
	"count": func(p *state.Pinset) (string, error) {
		n, err := p.Count(context.Background(), api.PinFilter{Name: "pin 3", Peer: testPeer(1)})
		m, err2 := p.Count(context.Background(), api.PinFilter{NamePrefix: "pin 1"})
		return fmt.Sprint(n, m), errors.Join(err, err2)
	},
	"expired": func(p *state.Pinset) (string, error) {
		pins, err := p.Expired(epoch.Add(10000*time.Hour), 1000)
		return fmt.Sprint(pins), err
	},
	"changes": func(p *state.Pinset) (string, error) {
		changes, err := p.SomeChanges(1, 1<<20)
		return fmt.Sprint(changes), err
	},
	"hash": func(p *state.Pinset) (string, error) {
		hash, index, err := p.Hash()
		return fmt.Sprint(hash, index), err
	},
	"check": func(p *state.Pinset) (string, error) {
		var problems []error
		n, err := p.Check(context.Background(), func(problem string) { problems = append(problems, errors.New(problem)) })
		return fmt.Sprint(n), errors.Join(append(problems, err)...)
	},
	"dump": func(p *state.Pinset) (string, error) {
		var out strings.Builder
		err := p.Dump(func(index uint64) error { fmt.Fprintln(&out, index); return nil },
			func(pin api.Pin) error { fmt.Fprintln(&out, pin.Cid, pin.Revision); return nil })
		return out.String(), err
	},
	"survey": func(p *state.Pinset) (string, error) {
		if err := p.SurveyNow(context.Background()); err != nil {
			return "", err
		}
		var out strings.Builder
		for _, c := range someCids() {
			pin, found, err := p.Get(c)
			if err != nil {
				return "", err
			}
			fmt.Fprintln(&out, c, found, pin.Revision)
		}
		return out.String(), nil
	},
}

// eachFault does something once for every read that it has, for each kind of
// fault, and stops when the plan finds no read to spoil any more. Of the reads
// after the first few, which are all alike, each kind spoils others.
func eachFault(t *testing.T, lasting bool, try func(t *testing.T, plan faultfs.Plan) (reached bool)) {
	for _, kind := range faultfs.Kinds {
		for n := 0; ; n++ {
			if n == 2000 {
				t.Fatalf("%s: no end", kind)
			}
			if n >= 8 && n%len(faultfs.Kinds) != int(kind) {
				continue
			}
			if !try(t, faultfs.Plan{Kind: kind, After: n, Seed: uint64(n)*7 + 1, Lasting: lasting}) || t.Failed() {
				break
			}
		}
	}
}

// Whatever goes wrong in reading, what a pinset tells is right or an error, and
// a fault that passes is forgotten.
func TestReadFaults(t *testing.T) {
	base, _ := readBase(t)
	p, err := state.Open(cloneOf(base), "pinset")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for name, read := range readers {
		if want[name], err = read(p); err != nil {
			t.Fatal(name, err)
		}
	}
	hash := mustHash(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for name, read := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachFault(t, false, func(t *testing.T, plan faultfs.Plan) bool {
				fs := faultfs.New(cloneOf(base))
				p, err := state.Open(fs, "pinset")
				if err != nil {
					t.Fatal(err)
				}
				fs.Set(plan)
				got, err := read(p)
				_, hits := fs.Counts()
				fs.Heal()
				if err == nil && got != want[name] {
					t.Errorf("read %d with %s gave other data, and no error", plan.After, plan.Kind)
				}
				if again, err := read(p); err != nil || again != want[name] {
					t.Errorf("read %d with %s: after the fault is gone: %v", plan.After, plan.Kind, err)
				}
				if err := p.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				if p, err = state.Open(fs, "pinset"); err != nil {
					t.Fatalf("read %d with %s: opened again: %v", plan.After, plan.Kind, err)
				}
				if got := mustHash(t, p); got != hash {
					t.Errorf("read %d with %s: another pinset after the next start", plan.After, plan.Kind)
				}
				return p.Close() == nil && hits > 0
			})
		})
	}
}

// A pinset that is opened over a disk with faults is what it was at some index,
// whole, or is not opened; and is there when the fault is gone.
func TestReadFaultsAtOpen(t *testing.T) {
	base, hashes := readBase(t)
	last := uint64(len(hashes) - 1)
	for _, lasting := range []bool{false, true} {
		eachFault(t, lasting, func(t *testing.T, plan faultfs.Plan) bool {
			fs := faultfs.New(cloneOf(base))
			fs.Set(plan)
			p, err := state.Open(fs, "pinset")
			_, hits := fs.Counts()
			if err == nil {
				if got, index, err := p.Hash(); err == nil && got != hashes[index] {
					t.Errorf("read %d with %s: opened as something else, at index %d", plan.After, plan.Kind, index)
				}
				if err := p.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
			fs.Heal()
			opened := err == nil
			p, err = state.Open(fs, "pinset")
			if err != nil {
				t.Errorf("read %d with %s: not opened when the fault is gone: %v", plan.After, plan.Kind, err)
				return hits > 0
			}
			// What was opened without its log's end is at an earlier index, and the
			// log of the cluster goes on from there.
			if got, index, err := p.Hash(); err != nil || got != hashes[index] || !opened && index != last {
				t.Errorf("read %d with %s: at index %d of %d after the fault is gone: %v", plan.After, plan.Kind, index, last, err)
			}
			return p.Close() == nil && hits > 0
		})
	}
}

// An entry is applied as everywhere else, or not at all.
func TestReadFaultsInApply(t *testing.T) {
	base, _ := readBase(t)
	dice := rand.New(rand.NewPCG(5, 5))
	var commands [][]byte
	for n := 0; n < faultyPins; n += 8 { // repeats, changes on no ground, unpins, new pins
		commands = append(commands, faultyPin(n, dice).Encode(),
			state.PinCommand{Pin: testPin(n+1, testPeer(1)), At: epoch}.Encode(),
			state.UnpinCommand{Cid: testCid(n + 2), Expect: 1 << 40, At: epoch}.Encode(),
			state.PinCommand{Pin: testPin(n+10_000, testPeer(1)), At: epoch}.Encode())
	}
	const index = 100
	run := func(p *state.Pinset) (string, error) {
		results, err := p.Apply(index, commands)
		if err != nil {
			return "", err
		}
		var out strings.Builder
		for _, r := range results {
			answer := answerOf(t, r)
			fmt.Fprintln(&out, answer.Index, answer.Err, answer.Repeat, answer.Pin.Name)
		}
		return out.String(), nil
	}
	p, err := state.Open(cloneOf(base), "pinset")
	if err != nil {
		t.Fatal(err)
	}
	want, err := run(p)
	if err != nil {
		t.Fatal(err)
	}
	hash := mustHash(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	eachFault(t, false, func(t *testing.T, plan faultfs.Plan) bool {
		fs := faultfs.New(cloneOf(base))
		p, err := state.Open(fs, "pinset")
		if err != nil {
			t.Fatal(err)
		}
		fs.Set(plan)
		got, err := run(p)
		_, hits := fs.Counts()
		fs.Heal()
		if err == nil && got != want {
			t.Errorf("read %d with %s: applied otherwise than elsewhere, and no error", plan.After, plan.Kind)
		}
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if p, err = state.Open(fs, "pinset"); err != nil {
			t.Fatalf("read %d with %s: opened again: %v", plan.After, plan.Kind, err)
		}
		if _, err := p.Apply(index, commands); err != nil {
			t.Errorf("read %d with %s: not applied when the fault is gone: %v", plan.After, plan.Kind, err)
		}
		if got := mustHash(t, p); got != hash {
			t.Errorf("read %d with %s: another pinset than elsewhere", plan.After, plan.Kind)
		}
		return p.Close() == nil && hits > 0
	})
}

// A checkpoint is the pinset that was, or is none; and a pinset that a damaged
// one shall replace stays.
func TestReadFaultsInCheckpoint(t *testing.T) {
	base, _ := readBase(t)
	p, err := state.Open(base, "pinset")
	if err != nil {
		t.Fatal(err)
	}
	hash := mustHash(t, p)
	if err := p.Checkpoint("checkpoint"); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := state.Open(base, "other")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, other, 1, state.PinCommand{Pin: testPin(1, testPeer(1)), At: epoch}.Encode())
	before := mustHash(t, other)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for _, lasting := range []bool{false, true} {
		eachFault(t, lasting, func(t *testing.T, plan faultfs.Plan) bool {
			fs := faultfs.New(cloneOf(base))
			other, err := state.Open(fs, "other")
			if err != nil {
				t.Fatal(err)
			}
			fs.Set(plan)
			failed := other.Restore("checkpoint")
			_, hits := fs.Counts()
			fs.Set(faultfs.Plan{Match: func(string) bool { return false }})
			want := before
			if failed == nil {
				want = hash
			}
			if got, _, err := other.Hash(); err != nil || got != want {
				t.Errorf("read %d with %s, lasting %v: restored (%v) and then: %v, the right hash: %v", plan.After, plan.Kind, lasting, failed, err, got == want)
			}
			_ = other.Close()
			if lasting {
				return hits > 0
			}
			if other, err = state.Open(fs, "other"); err != nil {
				t.Fatalf("read %d with %s: opened again: %v", plan.After, plan.Kind, err)
			}
			// After an error in the last step of all it may be either.
			if got := mustHash(t, other); got != want && (failed == nil || got != hash) {
				t.Errorf("read %d with %s: another pinset after the next start", plan.After, plan.Kind)
			}
			return other.Close() == nil && hits > 0
		})
	}
	eachFault(t, false, func(t *testing.T, plan faultfs.Plan) bool {
		fs := faultfs.New(cloneOf(base))
		p, err := state.Open(fs, "pinset")
		if err != nil {
			t.Fatal(err)
		}
		fs.Set(plan)
		if err = p.Checkpoint("another"); err == nil {
			_, err = p.Verify("another", false)
		}
		_, hits := fs.Counts()
		fs.Heal()
		if err == nil {
			copied, err := state.Open(fs, "other")
			if err != nil {
				t.Fatal(err)
			}
			if err := copied.Restore("another"); err != nil || mustHash(t, copied) != hash {
				t.Errorf("read %d with %s: the checkpoint is something else: %v", plan.After, plan.Kind, err)
			}
			_ = copied.Close()
		} else if err := p.Checkpoint("third"); err != nil {
			t.Errorf("read %d with %s: no checkpoint when the fault is gone: %v", plan.After, plan.Kind, err)
		}
		return p.Close() == nil && hits > 0
	})
}

// lists are the listings of a pinset.
func lists(p *state.Pinset) []iter.Seq2[api.Pin, error] {
	return []iter.Seq2[api.Pin, error]{p.Pins(api.PinFilter{}), p.Pins(api.PinFilter{Name: "pin 3", Peer: testPeer(1)}),
		p.Newest(context.Background(), api.PinFilter{}), p.WantingReplicas(3)}
}

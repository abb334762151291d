package sim

import (
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"

	"holdfast/internal/faultfs"
)

// durableLogs are one process's raft log. Every write is on the disk when it
// returns; from the crash on, none is.
type durableLogs struct {
	disk *raft.InmemStore
	slow func() // waits as long as the disk takes

	mu     sync.Mutex
	frozen bool
	chance float64    // that an entry cannot be read
	dice   *rand.Rand // for that
}

// spoil lets reads fail as a plan says. What they give is never wrong: the real
// log's checksums see to that (see consensus).
func (d *durableLogs) spoil(plan faultfs.Plan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.chance, d.dice = plan.Chance, rand.New(rand.NewPCG(plan.Seed, 8))
}

func (d *durableLogs) unreadable() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.chance > 0 && d.dice.Float64() < d.chance {
		return syscall.EIO
	}
	return nil
}

var errPowerless = errors.New("the disk is gone")

// freeze ends writing for good, and returns what the next process finds. It is
// a copy: the old process may go on reading, and raft panics when what it
// stored is gone.
func (d *durableLogs) freeze() (*raft.InmemStore, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = true
	next := raft.NewInmemStore()
	first, err := d.disk.FirstIndex()
	if err != nil || first == 0 {
		return next, err
	}
	last, err := d.disk.LastIndex()
	if err != nil {
		return next, err
	}
	for index := first; index <= last; index++ {
		entry := new(raft.Log)
		if err := d.disk.GetLog(index, entry); err != nil {
			return next, err
		}
		if err := next.StoreLog(entry); err != nil {
			return next, err
		}
	}
	return next, nil
}

func (d *durableLogs) FirstIndex() (uint64, error) { return d.disk.FirstIndex() }
func (d *durableLogs) LastIndex() (uint64, error)  { return d.disk.LastIndex() }

func (d *durableLogs) GetLog(index uint64, log *raft.Log) error {
	if err := d.unreadable(); err != nil {
		return err
	}
	return d.disk.GetLog(index, log)
}

func (d *durableLogs) StoreLog(log *raft.Log) error { return d.StoreLogs([]*raft.Log{log}) }

func (d *durableLogs) StoreLogs(logs []*raft.Log) error {
	d.slow() // without a lock: a bubble's time stands still where somebody waits for one
	return d.write(func() error { return d.disk.StoreLogs(logs) })
}

func (d *durableLogs) DeleteRange(low, high uint64) error {
	return d.write(func() error { return d.disk.DeleteRange(low, high) })
}

func (d *durableLogs) write(change func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen {
		return errPowerless
	}
	return change()
}

// slowStable is a term and vote whose disk takes its time.
type slowStable struct {
	raft.StableStore
	slow func()
}

func (s slowStable) Set(key, value []byte) error {
	s.slow()
	return s.StableStore.Set(key, value)
}

func (s slowStable) SetUint64(key []byte, value uint64) error {
	s.slow()
	return s.StableStore.SetUint64(key, value)
}

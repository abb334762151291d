package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"holdfast/internal/faultfs"
)

// eachReadFault does something once for each read that it has and each kind of
// fault, until the plan finds no read to spoil.
func eachReadFault(t *testing.T, try func(plan faultfs.Plan) (reached bool)) {
	t.Helper()
	for _, kind := range faultfs.Kinds {
		for seed := range uint64(20) {
			for n := 0; n < 100 && try(faultfs.Plan{Kind: kind, After: n, Seed: seed}); n++ {
			}
		}
	}
}

// A vote that cannot be read is an error: never another vote, and never none.
func TestStableReadFaults(t *testing.T) {
	mem := crashableDir(t)
	s, err := NewStable(mem, "/data/vote")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(vote(s, 1234567, "candidate"), s.SetUint64([]byte(keyCurrentTerm), 1234567)); err != nil {
		t.Fatal(err)
	}
	right := func(s *Stable) bool {
		term, _ := s.GetUint64([]byte(keyVoteTerm))
		current, _ := s.GetUint64([]byte(keyCurrentTerm))
		candidate, _ := s.Get([]byte(keyVoteCandidate))
		return term == 1234567 && current == 1234567 && string(candidate) == "candidate"
	}
	fs := faultfs.New(mem)
	eachReadFault(t, func(plan faultfs.Plan) bool {
		fs.Set(plan)
		got, err := NewStable(fs, "/data/vote")
		_, hits := fs.Counts()
		if err == nil && !right(got) {
			t.Errorf("INV-TERM: read %d with %s gave another vote", plan.After, plan.Kind)
		}
		return hits > 0
	})
	data, err := readFile(mem, "/data/vote")
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(data) * 8 {
		wrong := bytes.Clone(data)
		wrong[i/8] ^= 1 << (i % 8)
		if err := writeFile(mem, "/data/other", wrong); err != nil {
			t.Fatal(err)
		}
		if got, err := NewStable(mem, "/data/other"); err == nil && !right(got) {
			t.Errorf("INV-TERM: with bit %d of %s wrong it is another vote", i, data)
		}
	}
}

// A vote of earlier versions, without a checksum, is read.
func TestStableWithoutChecksum(t *testing.T) {
	fs := crashableDir(t)
	if err := writeFile(fs, "/data/vote", []byte(`{"version":1,"numbers":{"LastVoteTerm":5},"bytes":{"LastVoteCand":"YQ=="}}`)); err != nil {
		t.Fatal(err)
	}
	s, err := NewStable(fs, "/data/vote")
	if err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 5, "a")
}

// Entries of the log that are not what was written are errors. raft-wal takes a
// frame that it cannot read for the end of what was written; that the log is
// shorter than the state, Run finds out (see recover).
func TestDamagedLogFile(t *testing.T) {
	dir := t.TempDir()
	logs, _, closeStores, err := OpenStores(dir)
	if err != nil {
		t.Fatal(err)
	}
	const entries = 6
	data := func(index uint64) []byte { return bytes.Repeat([]byte{byte(index)}, 100) }
	for index := uint64(1); index <= entries; index++ {
		if err := logs.StoreLog(&raft.Log{Index: index, Term: 3, Type: raft.LogCommand, Data: data(index)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := closeStores(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "log", "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	file, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	whole := make([]byte, 4096)
	if _, err := file.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(whole, "\x00"))
	dice := rand.New(rand.NewPCG(4, 4))
	found := 0
	for at := 0; at < used; at += 1 + dice.IntN(12) {
		wrong := bytes.Clone(whole)
		wrong[at] ^= 1 << dice.IntN(8)
		if _, err := file.WriteAt(wrong, 0); err != nil {
			t.Fatal(err)
		}
		logs, _, closeStores, err := OpenStores(dir)
		if err != nil {
			found++
			continue
		}
		last, err := logs.LastIndex()
		if err == nil && last < entries {
			found++
		}
		for index := uint64(1); err == nil && index <= last; index++ {
			var entry raft.Log
			if logs.GetLog(index, &entry) != nil {
				found++
			} else if entry.Index != index || entry.Term != 3 || entry.Type != raft.LogCommand || !bytes.Equal(entry.Data, data(index)) {
				t.Errorf("byte %d: entry %d is another, and there is no error", at, index)
			}
		}
		if err := closeStores(); err != nil {
			t.Fatal(err)
		}
	}
	if found < 10 {
		t.Errorf("only %d faults were noticed", found)
	}
}

// Entries that an earlier version wrote have no checksum, and are read; those of
// a peer that sends its checksum along get their own.
func TestSealedLogs(t *testing.T) {
	inner := raft.NewInmemStore()
	if err := inner.StoreLog(&raft.Log{Index: 1, Term: 1, Data: []byte("old")}); err != nil {
		t.Fatal(err)
	}
	logs := sealedLogs{inner}
	mine := &raft.Log{Index: 2, Term: 1, Data: []byte("new"), Extensions: []byte("hfc1----")}
	if err := logs.StoreLog(mine); err != nil {
		t.Fatal(err)
	}
	if string(mine.Extensions) != "hfc1----" {
		t.Error("an entry of raft was changed")
	}
	for index, want := range []string{"old", "new"} {
		var got raft.Log
		if err := logs.GetLog(uint64(index+1), &got); err != nil || string(got.Data) != want || len(got.Extensions) != 0 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	var raw raft.Log
	if err := inner.GetLog(2, &raw); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func(*raft.Log){
		func(l *raft.Log) { l.Data = []byte("nww") }, func(l *raft.Log) { l.Term = 2 }, func(l *raft.Log) { l.Type = raft.LogNoop },
		func(l *raft.Log) { l.Extensions = []byte("hfc1----") }, func(l *raft.Log) { l.Extensions = l.Extensions[:4] },
	} {
		wrong := raw
		spoil(&wrong)
		if err := inner.StoreLog(&wrong); err != nil {
			t.Fatal(err)
		}
		var got raft.Log
		if err := logs.GetLog(2, &got); err == nil {
			t.Errorf("read as %+v", got)
		}
	}
}

// What is listed of snapshots is right, or an error, or known to be damaged; and
// who has one has state, whatever can be read of it.
func TestSnapshotReadFaults(t *testing.T) {
	mem := vfs.NewMem()
	store := openSnapshots(t, mem)
	var want []raft.SnapshotMeta
	for _, index := range []uint64{40, 80} {
		if _, err := takeSnapshot(store, machineAt(t, mem, index), index); err != nil {
			t.Fatal(err)
		}
	}
	list, err := store.List()
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for _, meta := range list {
		want = append(want, *meta)
	}
	fs := faultfs.New(mem)
	eachReadFault(t, func(plan faultfs.Plan) bool {
		store := newSnapshots(fs, "/data/snapshots", store.logger)
		fs.Set(plan)
		got, err := store.List()
		_, hits := fs.Counts()
		for _, meta := range got {
			if fmt.Sprint(*meta) != fmt.Sprint(want[0]) && fmt.Sprint(*meta) != fmt.Sprint(want[1]) {
				t.Errorf("read %d with %s: listed %+v", plan.After, plan.Kind, *meta)
			}
		}
		if passes := plan.Kind == faultfs.EIO || plan.Kind == faultfs.EMFILE; err == nil && hits > 0 && passes {
			t.Errorf("read %d with %s: %d snapshots, and no error", plan.After, plan.Kind, len(got))
		}
		fs.Set(plan)
		if has, err := store.any(); err == nil && !has {
			t.Errorf("read %d with %s: there seems to be no snapshot", plan.After, plan.Kind)
		}
		fs.Heal()
		if again, err := newSnapshots(fs, "/data/snapshots", store.logger).List(); err != nil || len(again) != 2 {
			t.Errorf("read %d with %s: %d snapshots when the fault is gone, %v", plan.After, plan.Kind, len(again), err)
		}
		return hits > 0
	})
	// A damaged one is state, too: its peer founds no other cluster.
	for _, id := range ids(t, store) {
		if err := writeFile(mem, store.path(id, metaFile), []byte("{")); err != nil {
			t.Fatal(err)
		}
	}
	c := newCluster(t, 1, 0, func(p *testPeer) { p.fs = mem })
	c.build(c.peers[0])
	if has, err := c.peers[0].log.HasState(); err != nil || !has {
		t.Errorf("has state: %v, %v", has, err)
	}
	if err := c.peers[0].log.Bootstrap(testIDs()[:1]); err == nil {
		t.Error("it founded a second cluster")
	}
}

// A stream that is read over a disk with faults arrives as it was, or breaks off.
func TestSnapshotStreamReadFaults(t *testing.T) {
	mem := vfs.NewMem()
	fs := faultfs.New(mem)
	store := openSnapshots(t, fs)
	m := machineAt(t, mem, 40)
	id, err := takeSnapshot(store, m, 40)
	if err != nil {
		t.Fatal(err)
	}
	store.pace.SetLimit(1 << 40)
	for _, kind := range []faultfs.Kind{faultfs.EIO, faultfs.Short, faultfs.EMFILE} {
		for n := 0; ; n++ {
			meta, stream, err := store.Open(id)
			if err != nil {
				t.Fatal(err)
			}
			fs.Set(faultfs.Plan{Kind: kind, After: n})
			arrived, err := receive(openSnapshots(t, vfs.NewMem()), meta, struct{ io.Reader }{stream}, 4096)
			_, hits := fs.Counts()
			fs.Heal()
			if hits > 0 && err == nil {
				t.Errorf("read %d with %s: %s arrived", n, kind, arrived)
			}
			if err := stream.Close(); err != nil {
				t.Error(err)
			}
			if hits == 0 {
				break
			}
		}
	}
	// Bytes that were wrong when they were read are the receiver's to notice, because
	// the stream's sum is right.
	for _, kind := range []faultfs.Kind{faultfs.Bit, faultfs.Zeros, faultfs.Garbage} {
		for n := 0; ; n++ {
			meta, stream, err := store.Open(id)
			if err != nil {
				t.Fatal(err)
			}
			fs.Set(faultfs.Plan{Kind: kind, After: n, Seed: uint64(n)})
			to := openSnapshots(t, vfs.NewMem())
			to.verify = (&fakeMachine{fs: to.fs}).Verify
			arrived, err := receive(to, meta, struct{ io.Reader }{stream}, 4096)
			_, hits := fs.Counts()
			fs.Heal()
			if hits > 0 && err == nil {
				t.Errorf("read %d with %s: %s arrived", n, kind, arrived)
			}
			leftovers(t, to)
			if err := stream.Close(); err != nil {
				t.Error(err)
			}
			if hits == 0 {
				break
			}
		}
	}
	// The sender looks first. What it cannot read for now, it has still.
	store.verify = (&fakeMachine{fs: fs}).Verify
	_, stream, err := store.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	fs.Set(faultfs.Plan{Kind: faultfs.EIO})
	if n, err := stream.Read(make([]byte, 100)); err == nil || n != 0 {
		t.Errorf("%d bytes of a snapshot that cannot be read were sent", n)
	}
	fs.Heal()
	if left := ids(t, store); len(left) != 1 {
		t.Errorf("it is not offered again: %v", left)
	}
	if err := writeFile(mem, store.path(id, stateFolder, "commands"), bytes.Repeat([]byte("x"), 10)); err != nil {
		t.Fatal(err)
	}
	if n, err := stream.Read(make([]byte, 100)); err == nil || n != 0 {
		t.Errorf("%d bytes of a damaged snapshot were sent", n)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if left := ids(t, store); len(left) != 0 {
		t.Errorf("it is offered again: %v", left)
	}
}

// A leader whose disk reads wrong sends a snapshot that is damaged. The others go on
// without it and get it when it can be read, or another.
func TestDamagedSnapshotFromLeader(t *testing.T) {
	for name, plan := range map[string]faultfs.Plan{
		"once":        {},
		"a few times": {Count: 6},
		"for good":    {Lasting: true, Count: -1},
	} {
		t.Run(name, func(t *testing.T) {
			var disk *faultfs.FS
			simulate(t, 2, 1, func(p *testPeer) {
				smallLog(p)
				if disk == nil {
					disk = faultfs.New(p.fs)
					p.fs, p.machine.fs = disk, disk
				}
			}, func(t *testing.T, c *testCluster) {
				leader, joiner := c.leader(c.peers[0]), c.peers[1]
				for i := range 30 {
					c.propose(leader, fmt.Sprint(i))
				}
				c.compact(leader)
				damaged := ids(t, leader.log.store)[0]
				plan.Match = func(path string) bool { return strings.Contains(path, damaged) && strings.HasSuffix(path, "commands") }
				// It is right when the leader looks at it, and wrong when it is sent.
				disk.Set(faultfs.Plan{Match: plan.Match, After: 1 << 30})
				if _, err := leader.machine.Verify(leader.log.store.path(damaged, stateFolder), true); err != nil {
					t.Fatal(err)
				}
				plan.After, _ = disk.Counts()
				disk.Set(plan)
				if err := leader.log.AddLearner(t.Context(), joiner.id); err != nil {
					t.Fatal(err)
				}
				c.propose(leader, "after")
				if got := c.agree(); len(got) != 31 || joiner.machine.restores != 1 {
					t.Errorf("%d commands after %d restores", len(got), joiner.machine.restores)
				}
				if _, hits := disk.Counts(); hits == 0 {
					t.Error("nothing went wrong")
				}
			})
		})
	}
}

// A peer whose newest snapshot is damaged goes on from the one before, if the log
// leads on from there; else it says what to do.
func TestDamagedSnapshotAtStart(t *testing.T) {
	for name, test := range map[string]struct {
		keep    uint64
		emptied bool // the log is, as after a snapshot was installed
		refused string
	}{"all is in the log": {keep: 1000}, "entries are missing": {keep: 1, refused: "let it join again"}, "nothing is in the log": {keep: 1000, emptied: true, refused: "has forgotten"}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 1, 1, func(p *testPeer) { p.config.TrailingLogs = test.keep })
			defer c.stopAll()
			p := c.peers[0]
			c.start(p)
			for round := range 2 {
				for i := range 10 {
					c.propose(c.leader(), fmt.Sprint(round, i))
				}
				c.compact(p)
			}
			if err := c.stop(p); err != nil {
				t.Fatal(err)
			}
			newest, found, err := p.log.store.newest()
			if err != nil || !found {
				t.Fatal(err)
			}
			if err := writeFile(p.fs, p.log.store.path(newest.ID, stateFolder, "sub", "padding"), make([]byte, 70_000)[:69_999]); err != nil {
				t.Fatal(err)
			}
			if err := writeFile(p.fs, p.log.store.path(newest.ID, stateFolder, "commands"), []byte("{")); err != nil {
				t.Fatal(err)
			}
			// The meta file agrees with what is there: only a restore can tell.
			p.machine.forget(0)
			if test.emptied {
				p.logs = raft.NewInmemStore()
			}
			c.build(p)
			meta := newest
			if meta.Files, err = p.log.store.files(p.log.store.path(newest.ID, stateFolder), ""); err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf(`{"version":1,"id":%q,"index":%d,"term":%d,"machine_index":%d,"servers":[{"id":%q,"address":%q,"voter":true}],"configuration_index":1,"files":[`,
				meta.ID, meta.Index, meta.Term, meta.MachineIndex, meta.Servers[0].ID, meta.Servers[0].Address)
			for i, file := range meta.Files {
				if i > 0 {
					text += ","
				}
				text += fmt.Sprintf(`{"name":%q,"size":%d}`, file.Name, file.Size)
			}
			if err := writeFile(p.fs, p.log.store.path(newest.ID, metaFile), []byte(text+"]}")); err != nil {
				t.Fatal(err)
			}
			c.start(p)
			if test.refused != "" {
				err := <-p.done
				p.done = nil
				if err == nil || !strings.Contains(err.Error(), test.refused) || !strings.Contains(err.Error(), newest.ID) {
					t.Errorf("it ended with: %v", err)
				}
				return
			}
			c.leader()
			if got := c.agree(); len(got) != 20 {
				t.Errorf("%d commands", len(got))
			}
		})
	}
}

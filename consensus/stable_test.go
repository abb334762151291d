package consensus

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// vote writes a vote as raft.persistVote does.
func vote(s raft.StableStore, term uint64, candidate string) error {
	return errors.Join(s.SetUint64([]byte(keyVoteTerm), term), s.Set([]byte(keyVoteCandidate), []byte(candidate)))
}

func wantVote(t *testing.T, s raft.StableStore, term uint64, candidate string) {
	t.Helper()
	gotTerm, err := s.GetUint64([]byte(keyVoteTerm))
	if err != nil {
		t.Fatal(err)
	}
	gotCandidate, err := s.Get([]byte(keyVoteCandidate))
	if err != nil {
		t.Fatal(err)
	}
	if gotTerm != term || string(gotCandidate) != candidate {
		t.Fatalf("voted for %q in term %d, want %q in %d", gotCandidate, gotTerm, candidate, term)
	}
}

func crashableDir(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := errors.Join(fs.MkdirAll("/data", 0o700), syncDir(fs, "/")); err != nil {
		t.Fatal(err)
	}
	return fs
}

// hashicorp/raft#661: a crash between the two writes of a vote must not pair
// the new term with the old candidate.
func TestVoteIsWrittenAsOne(t *testing.T) {
	fs := crashableDir(t)
	s, err := NewStable(fs, "/data/vote")
	if err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 0, "")
	if err := errors.Join(vote(s, 5, "a"), s.SetUint64([]byte(keyCurrentTerm), 6)); err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64([]byte(keyVoteTerm), 6); err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 5, "a")
	after, err := NewStable(fs.CrashClone(vfs.CrashCloneCfg{}), "/data/vote")
	if err != nil {
		t.Fatal(err)
	}
	wantVote(t, after, 5, "a")
	if term, _ := after.GetUint64([]byte(keyCurrentTerm)); term != 6 {
		t.Fatalf("current term %d", term)
	}
	if err := s.Set([]byte(keyVoteCandidate), []byte("b")); err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 6, "b")
	after, err = NewStable(fs.CrashClone(vfs.CrashCloneCfg{}), "/data/vote")
	if err != nil {
		t.Fatal(err)
	}
	wantVote(t, after, 6, "b")
}

// Whichever file operation fails, and whether the machine then crashes or not,
// the store holds the old vote or the new, and takes the next one.
func TestStableSurvivesEveryFailure(t *testing.T) {
	for i := int32(0); ; i++ {
		fs := crashableDir(t)
		s, err := NewStable(fs, "/data/vote")
		if err != nil {
			t.Fatal(err)
		}
		if err := vote(s, 1, "a"); err != nil {
			t.Fatal(err)
		}
		index := errorfs.OnIndex(i)
		s.fs = errorfs.Wrap(fs, index)
		voteErr := vote(s, 2, "b")
		crashed, err := NewStable(fs.CrashClone(vfs.CrashCloneCfg{}), "/data/vote")
		if err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
		if term, _ := crashed.GetUint64([]byte(keyVoteTerm)); term == 2 {
			wantVote(t, crashed, 2, "b")
		} else if voteErr == nil {
			t.Fatalf("operation %d: the vote was lost", i)
		} else {
			wantVote(t, crashed, 1, "a")
		}
		if voteErr == nil {
			if index.Load() >= 0 {
				return // all operations had their turn
			}
			continue
		}
		wantVote(t, s, 1, "a")
		s.fs = fs
		if err := vote(s, 2, "c"); err != nil {
			t.Fatalf("operation %d: vote again: %v", i, err)
		}
		again, err := NewStable(fs, "/data/vote")
		if err != nil {
			t.Fatal(err)
		}
		wantVote(t, again, 2, "c")
	}
}

func TestStableRefusesDamage(t *testing.T) {
	for name, content := range map[string]string{
		"empty":          "",
		"cut":            `{"version":1,"num`,
		"newer version":  `{"version":2,"numbers":{},"bytes":{}}`,
		"missing fields": `{"version":1}`,
	} {
		fs := crashableDir(t)
		if err := writeFile(fs, "/data/vote", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if _, err := NewStable(fs, "/data/vote"); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	fs := crashableDir(t)
	if err := writeFile(fs, "/data/vote", []byte(`{"version":1,"numbers":{"CurrentTerm":7,"LastVoteTerm":7},"bytes":{"LastVoteCand":"YWI="}}`)); err != nil {
		t.Fatal(err)
	}
	s, err := NewStable(fs, "/data/vote")
	if err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 7, "ab")
}

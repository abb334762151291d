package daemon

import (
	"context"
	"errors"

	"holdfast/api"
	"holdfast/state"
)

// Pinset is a peer's pinset as the commands on its machine see it: through the
// peer when it runs, else on the disk.
type Pinset interface {
	// Running says that a peer runs in the folder.
	Running() bool
	// Dump shows every pin as of one log index, which begin gets. Pins carry
	// their revisions. Notes are what the caller should know of the result.
	Dump(ctx context.Context, begin func(index uint64) error, each func(api.Pin) error) (notes []string, err error)
	// Import stores pins of an export; those that are as they shall be stay.
	Import(ctx context.Context, pins []api.Pin) (ImportAnswer, error)
	// Remove unpins those that still have the revision given with them.
	Remove(ctx context.Context, pins []api.Pin) (ImportAnswer, error)
	// Hash is comparable between peers at the same index.
	Hash(ctx context.Context) (HashAnswer, error)
	// Check compares what is derived from the pins with the pins.
	Check(ctx context.Context) (CheckAnswer, error)
	Close() error
}

// ImportAnswer tells what became of pins that were to be stored or removed.
type ImportAnswer struct {
	Changed   uint64         `json:"changed"`
	Unchanged uint64         `json:"unchanged"`
	Failed    []ImportFailed `json:"failed,omitempty"`
}

// ImportFailed is a pin that was refused.
type ImportFailed struct {
	Cid   api.Cid    `json:"cid"`
	Error *api.Error `json:"error"`
}

// HashAnswer is a hash of the pinset and the log index that it contains.
type HashAnswer struct {
	Hash  string `json:"hash"`
	Index uint64 `json:"index"`
}

// CheckAnswer is what a check looked at, and what is wrong.
type CheckAnswer struct {
	Checked  uint64   `json:"checked"` // pins that were looked at
	Index    uint64   `json:"index"`
	Problems []string `json:"problems"`
	More     uint64   `json:"more,omitempty"` // problems that are not listed
	Notes    []string `json:"notes,omitempty"`
}

// maxProblems is how many problems a check lists.
const maxProblems = 100

func (a *CheckAnswer) report(problem string) {
	if len(a.Problems) == maxProblems {
		a.More++
		return
	}
	a.Problems = append(a.Problems, problem)
}

// OpenPinset opens the pinset of a folder; the caller closes it. Errors:
// not_found, the folder holds no peer.
func OpenPinset(ctx context.Context, folder Folder, defaults Replication) (Pinset, error) {
	unlock, err := lockFolder(folder.Dir)
	if errors.Is(err, errLocked) {
		running := runningPinset{dir: folder.Dir}
		return running, AskAlive(ctx, folder.Dir)
	}
	if err != nil {
		return nil, err
	}
	if err := checkFormat(folder.Dir); err != nil {
		return nil, errors.Join(err, unlock())
	}
	stopped, err := openStopped(folder, defaults)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	stopped.unlock = unlock
	return stopped, nil
}

// Replication is how many replicas a pin has that does not say.
type Replication struct{ Min, Max int }

// checkPinset compares what is derived from the pins with the pins.
func checkPinset(ctx context.Context, pinset *state.Pinset) (CheckAnswer, error) {
	answer := CheckAnswer{Problems: []string{}, Index: pinset.Applied()}
	var err error
	answer.Checked, err = pinset.Check(ctx, answer.report)
	return answer, err
}

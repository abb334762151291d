package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/consensus"
	"holdfast/state"
)

// Recovery is the folder of a stopped peer that shall go on alone, because the
// majority of its cluster's voters is lost for good. Close it.
type Recovery struct {
	Folder Folder
	// Lost are the other members. They are members no more once Recover has
	// been called, and have to join again.
	Lost []api.Member
	Pins uint64

	state *state.Pinset
	log   *consensus.Log
	close []func() error
}

// OpenRecovery opens the files of a peer that does not run, and changes
// nothing. Errors: not_found, forbidden (it was removed), and one that says so
// when the peer runs.
func OpenRecovery(dir string) (_ *Recovery, err error) {
	r := &Recovery{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.Folder, err = LoadFolder(dir); err != nil {
		return nil, err
	}
	unlock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	r.close = append(r.close, unlock)
	if err := checkFormat(dir); err != nil {
		return nil, err
	}
	if r.state, err = state.Open(vfs.Default, filepath.Join(dir, "state")); err != nil {
		return nil, err
	}
	r.close = append(r.close, r.state.Close)
	logs, stable, closeStores, err := consensus.OpenStores(filepath.Join(dir, "raft"))
	if err != nil {
		return nil, fmt.Errorf("open the raft log: %w", err)
	}
	r.close = append(r.close, closeStores)
	// Nothing is sent: the transport only tells raft this peer's address.
	_, transport := raft.NewInmemTransport(raft.ServerAddress(r.Folder.Identity.ID.String()))
	r.log, err = consensus.New(consensus.Config{ID: r.Folder.Identity.ID, Dir: filepath.Join(dir, "raft")},
		consensus.Deps{Machine: r.state, Transport: transport, Logs: logs, Stable: stable, FS: vfs.Default})
	if err != nil {
		return nil, err
	}
	return r, r.look()
}

// look reads what is at stake.
func (r *Recovery) look() error {
	members, err := r.state.Members()
	if err != nil {
		return err
	}
	r.Lost = nil
	for _, m := range members {
		if m.ID != r.Folder.Identity.ID {
			r.Lost = append(r.Lost, m)
		}
	}
	r.Pins = r.state.Stats().Pins
	return nil
}

// Recover makes this peer the only voter and the only member. All pins stay.
// A crash in the middle is mended by calling it again.
func (r *Recovery) Recover() error {
	self := []peer.ID{r.Folder.Identity.ID}
	if err := r.log.ForceMembers(self, nil); err != nil {
		return err
	}
	// The log has been applied: now all members are known.
	if err := r.look(); err != nil {
		return err
	}
	var commands [][]byte
	for _, m := range r.Lost {
		commands = append(commands, state.RemoveMemberCommand{ID: m.ID}.Encode())
	}
	if len(commands) == 0 && !r.Folder.Cluster.Recovered.IsZero() {
		return nil // a repeat
	}
	if len(commands) > 0 {
		if err := r.log.ForceMembers(self, commands); err != nil {
			return err
		}
	}
	r.Folder.Cluster.Recovered = time.Now().UTC().Truncate(time.Second)
	return r.Folder.Cluster.Save(r.Folder.Dir)
}

// Close ends the use of the folder.
func (r *Recovery) Close() error {
	var errs []error
	for i := len(r.close) - 1; i >= 0; i-- {
		errs = append(errs, r.close[i]())
	}
	r.close = nil
	return errors.Join(errs...)
}

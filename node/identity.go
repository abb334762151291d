package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/datastore/dshelp"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// repoIDKey holds what RepoID returns. It lies with the blocks, so that it goes
// when they go.
var repoIDKey = ds.NewKey("/holdfast/repository")

// RepoID names the repository that the node has open: a random text, written
// into the repository's datastore when that was made (or first opened by a
// version that knows of it). A repository that was emptied, deleted or
// exchanged has another one: what was in the old one is not in it.
func (n *Node) RepoID(ctx context.Context) (string, error) {
	o, _, done, err := n.begin(ctx, "name the repository")
	if err != nil {
		return "", err
	}
	defer done()
	return o.repoID, nil
}

// openRepoID reads the repository's name, or gives it one. Where blocks lie
// apart from the metadata a block bears the name too, since either can be lost
// without the other; marker is its CID then. Only what is not there makes another
// name: what cannot be read is an error, as all pins would be fetched again.
func openRepoID(ctx context.Context, store *guardedStore) (id string, marker cid.Cid, err error) {
	raw, err := store.Get(ctx, repoIDKey)
	switch {
	case errors.Is(err, ds.ErrNotFound):
		return newRepoID(ctx, store)
	case err != nil:
		return "", cid.Undef, fmt.Errorf("read the repository's ID: %w", err)
	case !repoIDForm.Match(raw):
		return "", cid.Undef, api.Errorf(api.CodeInternal, "the repository's ID is damaged on this peer's disk: it reads %.40q; check the disk, and put back a copy of the repository, or move it away: the peer then makes a new one and fetches its pins again", raw)
	}
	id = string(raw)
	if store.oneLog {
		return id, cid.Undef, nil
	}
	mark, err := repoMarker(id)
	if err != nil {
		return "", cid.Undef, err
	}
	err = checkMarker(ctx, store, mark)
	if errors.Is(err, errNoMarker) {
		return newRepoID(ctx, store)
	}
	return id, mark.Cid(), err
}

// errNoMarker says that the blocks are not those of the repository's ID.
var errNoMarker = errors.New("the repository's ID is not among the blocks")

// checkMarker looks for the block that bears the repository's name. One with
// other bytes is written anew: it is there, and what was in it is known.
func checkMarker(ctx context.Context, store *guardedStore, mark blocks.Block) error {
	key := blockKey(mark.Cid())
	// Of the store itself: what is known to be damaged may be gone by now.
	data, err := store.Datastore.Get(ctx, key)
	switch {
	case errors.Is(err, ds.ErrNotFound):
		return errNoMarker
	case err != nil:
		return fmt.Errorf("read the repository's ID among the blocks: %w", err)
	case bytes.Equal(data, mark.RawData()):
		return nil
	}
	_ = store.damage.add(ctx, key, errOtherBytes.Error()) // the error is for readers
	return writeMarker(ctx, store, mark)
}

// repoIDForm is what rand.Text makes.
var repoIDForm = regexp.MustCompile(`^[A-Z2-7]{26}$`)

func newRepoID(ctx context.Context, store *guardedStore) (id string, marker cid.Cid, err error) {
	id = rand.Text()
	if !store.oneLog {
		mark, err := repoMarker(id)
		if err != nil {
			return "", cid.Undef, err
		}
		if err := writeMarker(ctx, store, mark); err != nil {
			return "", cid.Undef, err
		}
		marker = mark.Cid()
	}
	if err := writeSynced(ctx, store, repoIDKey, []byte(id)); err != nil {
		return "", cid.Undef, fmt.Errorf("write the repository's ID: %w", err)
	}
	return id, marker, nil
}

func writeMarker(ctx context.Context, store *guardedStore, mark blocks.Block) error {
	if err := writeSynced(ctx, store, blockKey(mark.Cid()), mark.RawData()); err != nil {
		return fmt.Errorf("write the repository's ID among the blocks: %w", err)
	}
	return nil
}

func writeSynced(ctx context.Context, store ds.Datastore, key ds.Key, value []byte) error {
	if err := store.Put(ctx, key, value); err != nil {
		return err
	}
	return store.Sync(ctx, key)
}

// repoMarker is the block that bears a repository's name.
func repoMarker(id string) (blocks.Block, error) {
	data := []byte("holdfast repository " + id)
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.SHA2_256}.Sum(data)
	if err != nil {
		return nil, fmt.Errorf("make the repository's ID: %w", err)
	}
	return blocks.NewBlockWithCid(data, c)
}

// blockKey is where the datastore has the block of a CID.
func blockKey(c cid.Cid) ds.Key {
	return blockstore.BlockPrefix.Child(dshelp.MultihashToDsKey(c.Hash()))
}

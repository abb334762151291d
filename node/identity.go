package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/datastore/dshelp"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/multiformats/go-multihash"
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
// without the other; marker is its CID then.
func openRepoID(ctx context.Context, store *guardedStore) (id string, marker cid.Cid, err error) {
	raw, err := store.Get(ctx, repoIDKey)
	if err != nil && !errors.Is(err, ds.ErrNotFound) {
		return "", cid.Undef, fmt.Errorf("read the repository's ID: %w", err)
	}
	id = string(raw)
	if id != "" {
		if store.oneLog {
			return id, cid.Undef, nil
		}
		mark, err := repoMarker(id)
		if err != nil {
			return "", cid.Undef, err
		}
		there, err := store.Has(ctx, blockKey(mark.Cid()))
		if err != nil {
			return "", cid.Undef, fmt.Errorf("look for the repository's ID among the blocks: %w", err)
		}
		if there {
			return id, mark.Cid(), nil
		}
	}
	id = rand.Text()
	if !store.oneLog {
		mark, err := repoMarker(id)
		if err != nil {
			return "", cid.Undef, err
		}
		marker = mark.Cid()
		if err := writeSynced(ctx, store, blockKey(marker), mark.RawData()); err != nil {
			return "", cid.Undef, fmt.Errorf("write the repository's ID among the blocks: %w", err)
		}
	}
	if err := writeSynced(ctx, store, repoIDKey, []byte(id)); err != nil {
		return "", cid.Undef, fmt.Errorf("write the repository's ID: %w", err)
	}
	return id, marker, nil
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

package ipfsproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ipfs/go-cid"
)

var repoStatOptions = []option{{"size-only", "s", isBool}, {"human", "H", isBool}}

var repoGCOptions = []option{{"stream-errors", "", isBool}, {"quiet", "q", isBool}, {"silent", "", isBool}}

// repoStats is the size of a repository; the cluster has no one path or
// version.
type repoStats struct {
	RepoSize   uint64
	StorageMax uint64
	NumObjects uint64
	RepoPath   string
	Version    string

	sizeOnly bool
}

func (v repoStats) text() string {
	sizes := fmt.Sprintf("RepoSize:   %d\nStorageMax: %d\n", v.RepoSize, v.StorageMax)
	if v.sizeOnly {
		return sizes
	}
	return fmt.Sprintf("NumObjects: %d\n", v.NumObjects) + sizes
}

// repoStat sums over the peers.
func (p *proxy) repoStat(ctx context.Context, c *call, a *answer) error {
	stat, err := p.deps.Service.RepoStat(ctx)
	if err != nil {
		return err
	}
	out := repoStats{RepoSize: stat.RepoSize, StorageMax: stat.StorageMax, NumObjects: stat.NumObjects, sizeOnly: c.on("size-only", false)}
	if out.sizeOnly {
		out.NumObjects = 0
	}
	return a.once(out)
}

// collected is one block that is gone, or an error.
type collected struct {
	Key   cid.Cid
	Error string `json:",omitempty"`

	quiet bool
}

func (v collected) text() string {
	switch {
	case v.Error != "":
		return "Error: " + v.Error + "\n"
	case v.quiet:
		return v.Key.String() + "\n"
	}
	return "removed " + v.Key.String() + "\n"
}

// repoGC collects garbage on every peer.
func (p *proxy) repoGC(ctx context.Context, c *call, a *answer) error {
	all, err := p.deps.Service.RepoGC(ctx, false)
	if err != nil {
		return err
	}
	var failed []error
	stream, silent := c.on("stream-errors", false), c.on("silent", false)
	tell := func(peer, text string) error {
		err := fmt.Errorf("peer %s: %s", peer, text)
		failed = append(failed, err)
		if !stream {
			return nil
		}
		return a.add(collected{Error: err.Error()})
	}
	for _, id := range slices.Sorted(maps.Keys(all.PeerMap)) {
		one := all.PeerMap[id]
		if one.Error != "" {
			if err := tell(id, one.Error); err != nil {
				return err
			}
		}
		for _, key := range one.Keys {
			switch {
			case key.Error != "":
				err = tell(id, key.Error)
			case !silent:
				err = a.add(collected{Key: key.Key.Cid, quiet: c.on("quiet", false)})
			}
			if err != nil {
				return err
			}
		}
	}
	if len(failed) > 0 && stream {
		return errors.New("encountered errors during gc run")
	}
	return errors.Join(failed...)
}

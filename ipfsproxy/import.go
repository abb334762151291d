package ipfsproxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

var importOptions = append([]option{{"pin-roots", "", isBool}, {"local-only", "", isBool}, {"silent", "", isBool}, {"stats", "", isBool}, {"allow-big-block", "", isBool}}, fastProvide...)

// imported is one output of an import.
type imported struct {
	Root  *importedRoot  `json:",omitempty"`
	Stats *importedStats `json:",omitempty"`

	line string
}

type importedRoot struct {
	Cid         cid.Cid
	PinErrorMsg string
}

type importedStats struct {
	BlockCount      uint64
	BlockBytesCount uint64
}

func (v imported) text() string { return v.line }

// dagImport gives CARs to the cluster's adder, which checks every block and
// that nothing is missing, writes them to the peers that shall hold them, and
// pins their roots. Kubo would take a CAR with missing blocks and find them
// locally; who has such a CAR imports it with pin-roots=false and pins it.
func (p *proxy) dagImport(ctx context.Context, c *call, a *answer) error {
	if c.on("local-only", false) {
		return errors.New("--local-only implies --pin-roots=false and cannot be combined with --pin-roots=true; please drop one of them")
	}
	if c.on("allow-big-block", false) {
		return unsupported("allow-big-block", "peers cannot exchange such blocks")
	}
	write, err := c.writer()
	if err != nil {
		return err
	}
	params := api.NewAddParams()
	if params.PinOptions, err = c.pinOptions(time.Now()); err != nil {
		return err
	}
	params.Format, params.ManyRoots = "car", true
	var stats importedStats
	silent := a.text && c.on("silent", false)
	err = p.deps.Adder.Add(ctx, c.upload, params, func(out api.AddedOutput) error {
		stats.BlockCount += out.Blocks
		stats.BlockBytesCount += out.Bytes
		if !out.Cid.Defined() || silent {
			return nil
		}
		return a.emit(imported{Root: &importedRoot{Cid: out.Cid.Cid},
			line: fmt.Sprintf("Pinned root\t%s\tsuccess\n", write.write(out.Cid.Cid))})
	})
	if err != nil || silent || !c.on("stats", false) {
		return err
	}
	return a.emit(imported{Stats: &stats, line: fmt.Sprintf("Imported %d blocks (%d bytes)\n", stats.BlockCount, stats.BlockBytesCount)})
}

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"

	"holdfast/api"
	"holdfast/internal/backup"
	"holdfast/internal/daemon"
)

const (
	importBatch   = 5000    // pins: some chunks of a bulk write
	importBytes   = 8 << 20 // about, of a batch
	importRetries = 5       // of a batch in which pins failed that may succeed yet
)

func (p program) stateImportCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "store the pins of an export",
		ArgsUsage: "FILE",
		Description: "FILE is an export of this program or of ipfs-cluster-service, compressed or not; - is standard input.\n" +
			"The whole input is read and checked before anything is changed. Pins that are there already stay as they\n" +
			"are, so an import that was interrupted is finished by the same command. Peers that the file names and the\n" +
			"cluster does not have are replaced by others.\n" +
			"A running peer imports into its whole cluster. A stopped one can import only while it is alone: a new one\n" +
			"that 'init' made, or the only peer of its cluster.",
		Flags: []cli.Flag{dirFlag(), setFlag(),
			&cli.BoolFlag{Name: "merge", Usage: "add to the pins that are there; this is the default"},
			&cli.BoolFlag{Name: "replace", Usage: "afterwards remove the pins that are not in the file"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"force", "f"}, Usage: "do not ask before pins are removed"},
			&cli.IntFlag{Name: "replication-min", Aliases: []string{"rmin"}, Usage: "replicas that the imported pins must have, instead of what the file says; -1: every peer"},
			&cli.IntFlag{Name: "replication-max", Aliases: []string{"rmax"}, Usage: "replicas that they should have; -1: every peer"},
			&cli.StringFlag{Name: "allocations", Aliases: []string{"allocs"}, Usage: "`PEERS` that shall hold them, instead of those of the file, by commas"},
			&cli.BoolFlag{Name: "unshard", Usage: "keep content that ipfs-cluster had cut into shards whole, on each of its peers"},
			&cli.StringFlag{Name: "skip-bad", Usage: "leave out what cannot be a pin and write it to `FILE`, as it came; without it, it fails the import"},
			&cli.BoolFlag{Name: "part", Usage: "the file is a part of an export: lines of it were taken out or moved"},
		},
		Action: p.stateImport,
	}
}

func (p program) stateImport(c *cli.Context) (err error) {
	if c.NArg() != 1 {
		return errors.New("give one file, or - for standard input; flags stand before it")
	}
	if c.Bool("merge") && c.Bool("replace") {
		return errors.New("give --merge or --replace, not both")
	}
	if c.String("skip-bad") != "" && c.Bool("replace") {
		return errors.New("give --skip-bad or --replace, not both: pins of the cluster that the file has in a form that cannot be would be removed")
	}
	rules, err := importRules(c)
	if err != nil {
		return err
	}
	in, remove, err := p.importFile(c.Args().First())
	if err != nil {
		return err
	}
	defer remove()
	i := importer{program: p, in: in, rules: rules, replaces: c.Bool("replace"), aside: c.String("skip-bad"), named: map[[16]byte]namedPin{}}
	if err := i.checkAside(); err != nil {
		return err
	}
	if i.pinset, err = p.pinset(c); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.pinset.Close()) }()
	if i.replaces {
		if err := i.findOthers(c.Context); err != nil {
			return err
		}
		if len(i.others) > 0 && !c.Bool("yes") {
			if err := p.confirm(fmt.Sprintf("%d pins that are not in the file will be removed. Continue? [y/N] ", len(i.others)), c.Args().First() == "-"); err != nil {
				return err
			}
		}
	}
	if err := i.store(c.Context); err != nil {
		return err
	}
	return i.removeOthers(c.Context)
}

// importRules reads the flags that change pins.
func importRules(c *cli.Context) (backup.Rules, error) {
	lo, hi := c.Int("replication-min"), c.Int("replication-max")
	if err := api.ValidateFactors(lo, hi); err != nil {
		return backup.Rules{}, err
	}
	if lo == api.Everywhere || hi == api.Everywhere {
		lo, hi = api.Everywhere, api.Everywhere
	}
	var peers []peer.ID
	for _, text := range strings.Split(c.String("allocations"), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		id, err := api.DecodePeer(text)
		if err != nil {
			return backup.Rules{}, fmt.Errorf("--allocations: %w", err)
		}
		peers = append(peers, id)
	}
	return backup.Rules{Now: time.Now(), Whole: c.Bool("unshard"), Part: c.Bool("part"), Change: func(pin *api.Pin) {
		if lo != 0 {
			pin.ReplicationFactorMin = lo
		}
		if hi != 0 {
			pin.ReplicationFactorMax = hi
		}
		if len(peers) > 0 {
			pin.Allocations = slices.Clone(peers)
		}
	}}, nil
}

// importFile opens the input so that it can be read twice. What comes from
// standard input is kept in a temporary file until remove is called.
func (p program) importFile(path string) (file *os.File, remove func(), err error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, nil, err
		}
		return file, func() { _ = file.Close() }, nil
	}
	file, err = os.CreateTemp("", "holdfast-import-*")
	if err != nil {
		return nil, nil, fmt.Errorf("keep standard input, in a file of the folder that TMPDIR names: %w", err)
	}
	remove = func() { _, _ = file.Close(), os.Remove(file.Name()) }
	if _, err := io.Copy(file, p.in); err != nil {
		remove()
		return nil, nil, fmt.Errorf("keep standard input: %w", err)
	}
	return file, remove, nil
}

// confirm asks a person; everything but yes is no.
func (p program) confirm(question string, inputIsPins bool) error {
	if inputIsPins {
		return errors.New("standard input holds the pins, so nobody can be asked whether others may be removed; give --yes")
	}
	fmt.Fprint(p.err, question)
	text, err := bufio.NewReader(p.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}

// importer is one import on its way.
type importer struct {
	program
	in       *os.File
	rules    backup.Rules
	replaces bool
	aside    string // the file for what cannot be a pin; "": there must be none
	pinset   daemon.Pinset
	named    map[[16]byte]namedPin // by a hash of the CID, so that a long file fits into memory
	others   []api.Pin             // CIDs and revisions of what is to be removed
	total    uint64                // pins in the input
}

// namedPin is where a pin stands in the file, and a checksum of all of it: the
// file is read twice, and a disk may read it otherwise the second time.
type namedPin struct {
	line int
	sum  [8]byte
}

func sumOf(pin api.Pin) ([8]byte, error) {
	text, err := json.Marshal(pin)
	sum := sha256.Sum256(text)
	return [8]byte(sum[:8]), err
}

func cidKey(c api.Cid) [16]byte {
	sum := sha256.Sum256(c.Bytes())
	return [16]byte(sum[:16])
}

// checkAside is check, and writes what it skips into a file of its own, which
// appears whole or not at all.
func (i *importer) checkAside() error {
	if i.aside == "" {
		return i.check()
	}
	have, err := i.in.Stat()
	if err != nil {
		return err
	}
	if info, err := os.Stat(i.aside); err == nil && os.SameFile(info, have) {
		return errors.New("--skip-bad names the file that is imported; give another")
	}
	err = backup.WriteFile(vfs.Default, i.aside, func(out io.Writer) error {
		i.rules.Skip = func(text []byte) error {
			_, err := fmt.Fprintf(out, "%s\n", text)
			return err
		}
		return i.check()
	})
	i.rules.Skip = func([]byte) error { return nil } // when it is read again
	return err
}

// check reads everything before anything is changed.
func (i *importer) check() error {
	var twice []string
	summary, err := i.read(func(line int, pin api.Pin) error {
		key := cidKey(pin.Cid)
		if first, known := i.named[key]; known && len(twice) < 20 {
			twice = append(twice, fmt.Sprintf("line %d: %s stands in line %d, too", line, pin.Cid, first.line))
		}
		sum, err := sumOf(pin)
		i.named[key] = namedPin{line, sum}
		return err
	})
	for _, warning := range summary.Warnings {
		fmt.Fprintln(i.err, "warning:", warning)
	}
	if err == nil && len(twice) > 0 {
		err = api.Errorf(api.CodeInvalid, "%s", strings.Join(twice, "\n"))
	}
	if err != nil && summary.Skipped > 0 && i.aside == "" && !i.replaces {
		err = fmt.Errorf("%w\n%d of them are no possible pins; with --skip-bad FILE these are written there and left out", err, summary.Skipped)
	}
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if i.aside != "" {
		fmt.Fprintf(i.err, "%d entries are left out: they cannot be pins; they stand in %s\n", summary.Skipped, i.aside)
	}
	if summary.Expired > 0 {
		fmt.Fprintf(i.err, "%d pins are left out: their time is over\n", summary.Expired)
	}
	if summary.Shards > 0 {
		fmt.Fprintf(i.err, "%d shards are left out: pins of their roots cover them\n", summary.Shards)
	}
	if i.total = summary.Pins; i.total == 0 && i.replaces {
		return errors.New("nothing was changed: the file holds no pins, and with --replace the cluster would hold none either")
	}
	return nil
}

// read reads the input from its start.
func (i *importer) read(each func(line int, pin api.Pin) error) (backup.Summary, error) {
	if _, err := i.in.Seek(0, io.SeekStart); err != nil {
		return backup.Summary{}, fmt.Errorf("read the file: %w", err)
	}
	return backup.Read(i.in, i.rules, each)
}

// findOthers looks for pins that the file does not name.
func (i *importer) findOthers(ctx context.Context) error {
	_, err := i.pinset.Dump(ctx, func(uint64) error { return nil }, func(pin api.Pin) error {
		if _, named := i.named[cidKey(pin.Cid)]; !named {
			i.others = append(i.others, api.Pin{Cid: pin.Cid, Revision: pin.Revision})
		}
		return nil
	})
	return err
}

// store sends the pins of the file in batches.
func (i *importer) store(ctx context.Context) error {
	var sum daemon.ImportAnswer
	batch, size := make([]api.Pin, 0, importBatch), 0
	show := i.progress("imported")
	flush := func() error {
		answer, err := i.settle(ctx, batch, i.pinset.Import)
		sum.Changed += answer.Changed
		sum.Unchanged += answer.Unchanged
		batch, size = batch[:0], 0
		show(sum.Changed+sum.Unchanged, false)
		return err
	}
	summary, err := i.read(func(line int, pin api.Pin) error {
		if sum, err := sumOf(pin); err != nil || i.named[cidKey(pin.Cid)].sum != sum {
			return errors.Join(fmt.Errorf("the file changed while it was read, or the disk reads it wrong: line %d is another", line), err)
		}
		batch, size = append(batch, pin), size+textBytes(pin)
		if len(batch) < importBatch && size < importBytes {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	if err == nil && summary.Pins != i.total {
		err = fmt.Errorf("the file changed while it was read: it held %d pins and now %d", i.total, summary.Pins)
	}
	show(0, true)
	fmt.Fprintf(i.err, "imported %d of %d pins: %d stored, %d were there already\n", sum.Changed+sum.Unchanged, i.total, sum.Changed, sum.Unchanged)
	if err != nil {
		return fmt.Errorf("the import is not complete, repeat it to go on: %w", err)
	}
	return nil
}

// textBytes is about what the texts of a pin take that can be long.
func textBytes(pin api.Pin) int {
	n := len(pin.Name) + 64*(len(pin.Origins)+len(pin.Allocations))
	for key, value := range pin.Metadata {
		n += len(key) + len(value)
	}
	return n
}

func (i *importer) removeOthers(ctx context.Context) error {
	if len(i.others) == 0 {
		return nil
	}
	var removed uint64
	for batch := range slices.Chunk(i.others, importBatch) {
		answer, err := i.settle(ctx, batch, i.pinset.Remove)
		removed += answer.Changed
		if err != nil {
			return fmt.Errorf("%d of %d other pins were removed, repeat the import to go on: %w", removed, len(i.others), err)
		}
	}
	fmt.Fprintf(i.err, "removed %d pins that are not in the file\n", removed)
	return nil
}

// settle does one thing with a batch, and again with those that failed for want
// of a leader or the like: all that can be repeated.
func (i *importer) settle(ctx context.Context, batch []api.Pin, do func(context.Context, []api.Pin) (daemon.ImportAnswer, error)) (daemon.ImportAnswer, error) {
	var sum daemon.ImportAnswer
	for try := 1; ; try++ {
		answer, err := do(ctx, batch)
		if err != nil && !passing(err) {
			return sum, err
		}
		if err == nil {
			sum.Changed += answer.Changed
			sum.Unchanged += answer.Unchanged
			if len(answer.Failed) == 0 {
				return sum, nil
			}
			first := answer.Failed[0]
			err = fmt.Errorf("%d pins failed; the first is %s: %w", len(answer.Failed), first.Cid, first.Error)
			if !slices.ContainsFunc(answer.Failed, func(f daemon.ImportFailed) bool { return passing(f.Error) }) {
				return sum, err
			}
			batch = failedOf(batch, answer.Failed)
		}
		if try == importRetries {
			return sum, err
		}
		select {
		case <-time.After(time.Duration(try) * time.Second):
		case <-ctx.Done():
			return sum, context.Cause(ctx)
		}
	}
}

// passing says that the same request may succeed a little later.
func passing(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeNoLeader, api.CodeUnavailable, api.CodeUnknownOutcome, api.CodeConflict:
		return true
	}
	return false
}

func failedOf(batch []api.Pin, failed []daemon.ImportFailed) []api.Pin {
	names := map[api.Cid]bool{}
	for _, f := range failed {
		names[f.Cid] = true
	}
	return slices.DeleteFunc(slices.Clone(batch), func(pin api.Pin) bool { return !names[pin.Cid] })
}

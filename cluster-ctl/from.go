package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync/atomic"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"holdfast/api"
	"holdfast/client"
)

// fromFlags are for commands that take many CIDs at once.
func fromFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "from", Usage: "read `FILE` (-: standard input): a CID, a path or a JSON object on each line; # begins a comment"},
		&cli.IntFlag{Name: "resume-from", Usage: "begin with this `LINE` of --from: the others are done"},
		&cli.StringFlag{Name: "key", Usage: "with --resume-from: the `KEY` that was shown when it stopped; what was done then is not done twice"},
	}
}

// bulkRun is one run of a command with --from.
type bulkRun struct {
	*program
	unpin   bool
	options api.PinOptions
	first   int
	key     string
	in      io.Reader
	total   int64 // bytes of the input; -1: unknown

	readErr error        // why the input could not be read to its end
	read    atomic.Int64 // bytes of the input
	bar     *progressbar.ProgressBar
	acked   int // the last line with a result; before the first: the one before it
	done    int
	failed  int
}

// newBulkRun reads the flags of fromFlags; the caller closes what is returned.
func (p *program) newBulkRun(c *cli.Context) (*bulkRun, io.Closer, error) {
	b := &bulkRun{program: p, first: max(c.Int("resume-from"), 1), key: c.String("key"), in: p.in, total: -1}
	closer := io.NopCloser(nil)
	switch {
	case c.NArg() > 0:
		return nil, nil, usagef("--from takes the place of the argument %q", c.Args().First())
	case c.Int("resume-from") < 0:
		return nil, nil, usagef("--resume-from %d is no line", c.Int("resume-from"))
	case c.Bool("wait") || c.IsSet("wait-timeout"):
		return nil, nil, usagef("--from and --wait do not go together; 'cluster-ctl status' shows how far the peers are")
	}
	if b.key == "" {
		b.key = rand.Text()
	}
	if path := c.String("from"); path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, nil, usagef("--from: %v", err)
		}
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			b.total = info.Size()
		}
		b.in, closer = file, file
	}
	b.acked = b.first - 1
	return b, closer, nil
}

// run sends the input and shows what comes back.
func (b *bulkRun) run(c *cli.Context) error {
	if b.terminal && !b.json {
		b.bar = progressbar.NewOptions64(b.total, progressbar.OptionSetWriter(b.err), progressbar.OptionSetDescription("read"),
			progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(true), progressbar.OptionUseIECUnits(true),
			progressbar.OptionFullWidth(), progressbar.OptionThrottle(progressInterval), progressbar.OptionClearOnFinish())
	}
	bar := progress{bar: b.bar}
	out := bufio.NewWriterSize(b.out, 64<<10)
	err := b.send(c, &bar, out)
	bar.close()
	if flushed := out.Flush(); err == nil && flushed != nil {
		err = fmt.Errorf("write the results: %w", flushed)
	}
	if err == nil {
		err = b.readErr
	}
	if err != nil {
		fmt.Fprintf(b.err, "stopped after line %d: %d done, %d failed; go on with --resume-from %d --key %s\n", b.acked, b.done, b.failed, b.acked+1, name(b.key))
		return err
	}
	if !b.json {
		fmt.Fprintf(b.out, "%d done, %d failed\n", b.done, b.failed)
	}
	if b.failed > 0 {
		return api.Errorf(api.CodeInvalid, "%d of %d lines failed", b.failed, b.failed+b.done)
	}
	return nil
}

func (b *bulkRun) send(c *cli.Context, bar *progress, out *bufio.Writer) error {
	for result, err := range b.cluster.Bulk(c.Context, b.lines(), b.key) {
		if err != nil {
			return err
		}
		if err := b.show(result, bar, out); err != nil {
			return err
		}
		b.acked = result.Line
		bar.set(b.read.Load())
	}
	return nil
}

// show writes one result: with --enc json all of them, as lines; else the lines
// that failed, on the error stream.
func (b *bulkRun) show(result client.BulkResult, bar *progress, out *bufio.Writer) error {
	if result.Err == nil {
		b.done++
	} else {
		b.failed++
	}
	if b.json {
		data := result.JSON
		if result.Err != nil {
			var err error
			if data, err = json.Marshal(lineFailure{Line: result.Line, Error: failureJSON(result.Err)}); err != nil {
				return fmt.Errorf("write the results: %w", err)
			}
		}
		_, err := out.Write(append(escapeJSON(data), '\n'))
		return err
	}
	if result.Err == nil {
		return nil
	}
	return bar.aside(func() error {
		_, err := fmt.Fprintf(b.err, "line %d: %s\n", result.Line, sentence(result.Err.Message))
		return err
	})
}

// lineFailure is a line that failed, as --enc json shows it.
type lineFailure struct {
	Error errorJSON `json:"error"`
	Line  int       `json:"line"`
}

func failureJSON(err *api.Error) errorJSON {
	return errorJSON{Code: err.Code.HTTPStatus(), Message: err.Message, Reason: err.Code}
}

// lines reads the input; its numbers are those of the file.
func (b *bulkRun) lines() iter.Seq[api.BulkLine] {
	return func(yield func(api.BulkLine) bool) {
		in := bufio.NewReaderSize(b.in, api.MaxBulkLine)
		for number := 1; ; number++ {
			data, err := in.ReadSlice('\n')
			b.read.Add(int64(len(data)))
			tooLong := false
			for errors.Is(err, bufio.ErrBufferFull) {
				tooLong = true
				var more []byte
				more, err = in.ReadSlice('\n')
				b.read.Add(int64(len(more)))
			}
			text := strings.TrimSpace(string(data))
			if number >= b.first && text != "" && !strings.HasPrefix(text, "#") {
				line := b.line(text, tooLong)
				line.Line = number
				if !yield(line) {
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					b.readErr = fmt.Errorf("read line %d of the input: %w", number, err)
				}
				return
			}
		}
	}
}

// line reads one line. What a line does not say is what the flags say.
func (b *bulkRun) line(text string, tooLong bool) api.BulkLine {
	if tooLong {
		return api.BulkLine{Err: api.Errorf(api.CodeTooLarge, "the line has more than %d bytes", api.MaxBulkLine)}
	}
	if !strings.HasPrefix(text, "{") {
		text, _, _ = strings.Cut(text, " #")
		line, err := api.ParseBulkText(strings.TrimSpace(text), b.unpin, b.options)
		line.Err = api.AsError(err)
		return line
	}
	line := api.BulkLine{}
	if err := line.UnmarshalJSON([]byte(text)); err != nil {
		return api.BulkLine{Err: api.AsError(err)}
	}
	switch {
	case b.unpin: // of a pin as the listings show it, only the CID counts
		line.Unpin, line.Options = true, api.PinOptions{}
	case line.Unpin:
		line.Err = api.Errorf(api.CodeInvalid, `the line says "unpin"; give it to 'cluster-ctl pin rm --from'`)
	default:
		line.Options = b.options.Under(line.Options)
	}
	return line
}

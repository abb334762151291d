package ipfsproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/api"
)

// maxPinName is how long Kubo lets a pin's name be, in bytes.
const maxPinName = 255

var fastProvide = []option{{"fast-provide-root", "", isBool}, {"fast-provide-dag", "", isBool}, {"fast-provide-wait", "", isBool}}

var pinAddOptions = append([]option{{"recursive", "r", isBool}, {"name", "n", isString}, {"progress", "", isBool}}, fastProvide...)

var pinRmOptions = []option{{"recursive", "r", isBool}}

var pinUpdateOptions = append([]option{{"unpin", "", isBool}}, fastProvide...)

// pinned is the answer of commands that pin or unpin.
type pinned struct {
	Pins []string
	line string // of text: "pinned %s recursively"
}

func (v pinned) text() string {
	var out strings.Builder
	for _, pin := range v.Pins {
		fmt.Fprintf(&out, v.line+"\n", pin)
	}
	return out.String()
}

// catchUp waits until this peer shows all that was acknowledged before, by any
// peer (INV-LINEAR): a client may have written through another, behind one load
// balancer.
func (p *proxy) catchUp(ctx context.Context) error {
	_, err := p.deps.Service.ReadAt(ctx, api.ReadPoint{Consistent: true})
	return err
}

// pinAdd answers when every pin is committed: it survives any crash, and the
// peers fetch the blocks from then on. Kubo would wait for the blocks.
func (p *proxy) pinAdd(ctx context.Context, c *call, a *answer) error {
	options, err := c.pinOptions(time.Now())
	if err != nil {
		return err
	}
	if len(options.Name) > maxPinName {
		return fmt.Errorf("pin name is %d bytes (max %d bytes)", len(options.Name), maxPinName)
	}
	write, err := c.writer()
	if err != nil {
		return err
	}
	out := pinned{line: "pinned %s recursively"}
	if !c.on("recursive", true) || c.text("type") == "direct" {
		// type is what clients of the incumbent know, recursive is Kubo's.
		options.Mode, out.line = api.ModeDirect, "pinned %s directly"
	}
	for _, arg := range c.args {
		found, err := p.resolve(ctx, arg)
		if err != nil {
			return err
		}
		if err := p.pin(ctx, found, options); err != nil {
			return err
		}
		out.Pins = append(out.Pins, write.write(found.Cid))
	}
	if c.on("progress", false) {
		return a.emit(out)
	}
	return a.once(out)
}

// pin proposes one pin. Kubo does not let a direct pin replace a recursive one,
// which would give up what is below it.
func (p *proxy) pin(ctx context.Context, c api.Cid, options api.PinOptions) error {
	if options.Mode == api.ModeDirect {
		if err := p.catchUp(ctx); err != nil {
			return err
		}
		pin, err := p.deps.Service.Allocation(ctx, c)
		if err == nil && pin.Mode != api.ModeDirect {
			return fmt.Errorf("pin: %s already pinned recursively", c)
		}
		if err != nil && !errors.Is(err, api.ErrNotFound) {
			return err
		}
	}
	_, err := p.deps.Service.Pin(ctx, api.PinRequest{Cid: c, Options: options})
	return err
}

// errNotPinned is worded as Kubo's, because clients look at the text.
var errNotPinned = errors.New("not pinned or pinned indirectly")

func (p *proxy) pinRm(ctx context.Context, c *call, a *answer) error {
	write, err := c.writer()
	if err != nil {
		return err
	}
	if !c.on("recursive", true) {
		if err := p.catchUp(ctx); err != nil {
			return err
		}
	}
	out := pinned{line: "unpinned %s"}
	for _, arg := range c.args {
		found, err := p.resolve(ctx, arg)
		if err != nil {
			return err
		}
		if !c.on("recursive", true) {
			pin, err := p.deps.Service.Allocation(ctx, found)
			if err == nil && pin.Mode != api.ModeDirect {
				return fmt.Errorf("%s is pinned recursively", found)
			}
		}
		_, err = p.deps.Service.Unpin(ctx, api.UnpinRequest{Cid: found})
		if errors.Is(err, api.ErrNotFound) {
			return errNotPinned
		}
		if err != nil {
			return err
		}
		out.Pins = append(out.Pins, write.write(found.Cid))
	}
	return a.once(out)
}

type updated struct{ Pins []string }

func (v updated) text() string { return fmt.Sprintf("updated %s to %s\n", v.Pins[0], v.Pins[1]) }

func (p *proxy) pinUpdate(ctx context.Context, c *call, a *answer) error {
	write, err := c.writer()
	if err != nil {
		return err
	}
	from, err := p.resolve(ctx, c.args[0])
	if err != nil {
		return err
	}
	to, err := p.resolve(ctx, c.args[1])
	if err != nil {
		return err
	}
	if err := p.catchUp(ctx); err != nil {
		return err
	}
	pin, err := p.deps.Service.Allocation(ctx, from)
	if errors.Is(err, api.ErrNotFound) || err == nil && pin.Mode == api.ModeDirect {
		return errors.New("'from' cid was not recursively pinned already")
	}
	if err != nil {
		return err
	}
	if !from.Equals(to.Cid) {
		if _, err := p.deps.Service.Pin(ctx, api.PinRequest{Cid: to, Options: api.PinOptions{PinUpdate: from}}); err != nil {
			return err
		}
		if c.on("unpin", true) {
			_, err := p.deps.Service.Unpin(ctx, api.UnpinRequest{Cid: from})
			if err != nil && !errors.Is(err, api.ErrNotFound) {
				return err
			}
		}
	}
	return a.once(updated{Pins: []string{write.write(from.Cid), write.write(to.Cid)}})
}

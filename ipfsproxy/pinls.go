package ipfsproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"holdfast/api"
)

var pinLsOptions = []option{{"type", "t", isString}, {"quiet", "q", isBool}, {"name", "n", isString}, {"stream", "s", isBool}, {"names", "", isBool}}

// listed is one pin of a stream of pins.
type listed struct {
	Cid  string `json:",omitempty"`
	Name string `json:",omitempty"`
	Type string `json:",omitempty"`

	quiet bool
}

func (v listed) text() string {
	switch {
	case v.quiet:
		return v.Cid + "\n"
	case v.Name == "":
		return v.Cid + " " + v.Type + "\n"
	}
	return v.Cid + " " + v.Type + " " + v.Name + "\n"
}

// listing is a request for pins.
type listing struct {
	kind  string // all, recursive, direct or indirect
	name  string // part of the names to show; "": all
	names bool
	quiet bool
	write writer
}

// pinLs lists the pins of the cluster. What is pinned indirectly, through a
// pin above it, is known to the nodes only, and is not shown.
func (p *proxy) pinLs(ctx context.Context, c *call, a *answer) error {
	l := listing{kind: c.text("type"), name: c.text("name"), quiet: c.on("quiet", false)}
	l.names = c.on("names", false) || l.name != ""
	if len(l.name) > maxPinName {
		return fmt.Errorf("pin name is %d bytes (max %d bytes)", len(l.name), maxPinName)
	}
	switch l.kind {
	case "":
		l.kind = "all"
	case "all", "recursive", "direct", "indirect":
	default:
		return fmt.Errorf("invalid type '%s', must be one of {direct, indirect, recursive, all}", l.kind)
	}
	var err error
	if l.write, err = c.writer(); err != nil {
		return err
	}
	if err := p.catchUp(ctx); err != nil {
		return err
	}
	keys := &keyed{answer: a}
	emit := keys.add
	if c.on("stream", false) {
		emit = func(v listed) error { return a.add(v) }
	}
	if len(c.args) > 0 {
		err = p.listArgs(ctx, c.args, l, emit)
	} else {
		err = p.listAll(ctx, l, emit)
	}
	if err != nil || c.on("stream", false) {
		return err
	}
	return keys.end()
}

// listAll emits every pin that is asked for.
func (p *proxy) listAll(ctx context.Context, l listing, emit func(listed) error) error {
	for pin, err := range p.deps.Service.Allocations(ctx, api.PinFilter{Types: []api.PinType{api.TypeData}}) {
		if err != nil {
			return err
		}
		if !l.wants(pin) || !strings.Contains(pin.Name, l.name) {
			continue
		}
		if err := emit(l.show(pin)); err != nil {
			return err
		}
	}
	return nil
}

// listArgs emits the pins of some CIDs, and fails at one that is not pinned.
func (p *proxy) listArgs(ctx context.Context, args []string, l listing, emit func(listed) error) error {
	var found []api.Cid
	for _, arg := range args {
		c, err := p.resolve(ctx, arg)
		if err != nil {
			return err
		}
		found = append(found, c)
	}
	var pins []api.Pin
	for i, c := range found {
		pin, err := p.deps.Service.Allocation(ctx, c)
		if errors.Is(err, api.ErrNotFound) || err == nil && !l.wants(pin) {
			return fmt.Errorf("path '%s' is not pinned", args[i])
		}
		if err != nil {
			return err
		}
		pins = append(pins, pin)
	}
	for _, pin := range pins {
		if err := emit(l.show(pin)); err != nil {
			return err
		}
	}
	return nil
}

func (l listing) wants(pin api.Pin) bool { return l.kind == "all" || l.kind == modeOf(pin) }

func modeOf(pin api.Pin) string {
	if pin.Mode == api.ModeDirect {
		return "direct"
	}
	return "recursive"
}

func (l listing) show(pin api.Pin) listed {
	out := listed{Cid: l.write.write(pin.Cid.Cid), Type: modeOf(pin), quiet: l.quiet}
	if l.names {
		out.Name = pin.Name
	}
	return out
}

// keyed writes pins as one JSON object by CID, piece by piece, so that a long
// list takes no memory.
type keyed struct {
	answer *answer
	count  int
}

func (k *keyed) add(pin listed) error {
	k.answer.begin(false)
	if k.answer.text {
		return k.answer.encode(pin)
	}
	entry, err := json.Marshal(struct{ Type, Name string }{pin.Type, pin.Name})
	if err != nil {
		return err
	}
	before := `,`
	if k.count == 0 {
		before = `{"Keys":{`
	}
	k.count++
	return k.answer.piece(fmt.Sprintf(`%s%q:%s`, before, pin.Cid, entry))
}

func (k *keyed) end() error {
	k.answer.begin(false)
	if k.answer.text {
		return nil
	}
	end := "}}\n"
	if k.count == 0 {
		end = "{}\n"
	}
	return k.answer.piece(end)
}

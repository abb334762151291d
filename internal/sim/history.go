package sim

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// kind is what an operation of the workload does.
type kind string

const (
	opPin   kind = "pin"
	opUnpin kind = "unpin"
	opGet   kind = "get"
)

// operation is one wish of a client, with all its repeats. Each pin has a name
// of its own, so that a reader knows whose pin it sees.
type operation struct {
	kind   kind
	key    int
	client int
	name   string // of a pin
	id     string // of the request
	line   int    // of a bulk write, from 1; 0: it is a request of its own

	min, max int // replicas of a pin; 0: the defaults

	call, ret int64  // in the order of events; ret is math.MaxInt64 while unknown
	seen      string // by a get: the name, "" for none; by an unpin: "" when there was nothing
	known     bool   // the outcome is
}

func (o *operation) String() string {
	what := string(o.kind)
	if o.line > 0 {
		what = fmt.Sprintf("line %d: %s", o.line, o.kind)
	}
	if o.kind == opPin {
		return fmt.Sprintf("client %d: %s %d as %s, known %v [%d,%d]", o.client, what, o.key, o.name, o.known, o.call, o.ret)
	}
	return fmt.Sprintf("client %d: %s %d -> %q, known %v [%d,%d]", o.client, what, o.key, o.seen, o.known, o.call, o.ret)
}

// history is what clients asked and were told, in the order of events: the
// bubble's clock stands still between them.
type history struct {
	mu    sync.Mutex
	clock int64
	ops   []*operation
	acked []uint64 // log indexes of acknowledged writes
}

// wrote notes the log index of an acknowledged write.
func (h *history) wrote(index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acked = append(h.acked, index)
}

// upTo returns the index of the last acknowledged write up to a log index.
func (h *history) upTo(index uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := uint64(0)
	for _, acked := range h.acked {
		if acked <= index {
			last = max(last, acked)
		}
	}
	return last
}

func (h *history) begin(o *operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	o.call, o.ret = h.clock, math.MaxInt64
	h.ops = append(h.ops, o)
}

// end notes the outcome of an operation.
func (h *history) end(o *operation, seen string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	o.ret, o.seen, o.known = h.clock, seen, true
}

// drop forgets an operation that surely had no effect.
func (h *history) drop(o *operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = slices.DeleteFunc(h.ops, func(other *operation) bool { return other == o })
}

// all returns the operations that say something, in the order of their calls.
func (h *history) all() []*operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.ops), func(o *operation) bool { return o.kind == opGet && !o.known })
}

// model is one key: its name, or "" when it is not there.
var model = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		o, now := input.(*operation), state.(string)
		switch {
		case o.kind == opPin:
			return true, o.name
		case o.kind == opGet:
			return o.seen == now, now
		case !o.known:
			return true, ""
		case o.seen == "": // there was nothing to unpin
			return now == "", ""
		}
		return o.seen == now, ""
	},
	DescribeOperation: func(input, _ any) string { return input.(*operation).String() },
}

// check returns the operations of the first key whose history cannot be
// explained by operations that take effect one after the other, each between
// its call and its answer. Keys do not depend on one another.
func (h *history) check(limit time.Duration) ([]*operation, porcupine.CheckResult) {
	for _, key := range h.keys() {
		var wishes []*operation
		var ops []porcupine.Operation
		for _, o := range h.all() {
			if o.key == key {
				wishes = append(wishes, o)
				ops = append(ops, porcupine.Operation{ClientId: o.client, Input: o, Call: o.call, Return: o.ret})
			}
		}
		if result := porcupine.CheckOperationsTimeout(model, ops, limit); result != porcupine.Ok {
			return wishes, result
		}
	}
	return nil, porcupine.Ok
}

// possible returns the names that a key may have in the end: those of the
// writes that no acknowledged write certainly followed.
func (h *history) possible(key int) map[string]bool {
	names := map[string]bool{}
	var writes []*operation
	for _, o := range h.all() {
		if o.key == key && o.kind != opGet && !(o.kind == opUnpin && o.known && o.seen == "") {
			writes = append(writes, o)
		}
	}
	acknowledged := false
	for _, o := range writes {
		acknowledged = acknowledged || o.known
		followed := slices.ContainsFunc(writes, func(later *operation) bool { return later.known && later.call > o.ret })
		if !followed {
			names[o.name] = true // of an unpin: ""
		}
	}
	if !acknowledged {
		names[""] = true
	}
	return names
}

// keys returns the keys that the history speaks of.
func (h *history) keys() []int {
	var keys []int
	for _, o := range h.all() {
		if !slices.Contains(keys, o.key) {
			keys = append(keys, o.key)
		}
	}
	return keys
}

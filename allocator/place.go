package allocator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Candidate is one peer as the one who decides sees it.
type Candidate struct {
	ID     peer.ID
	Free   uint64 // bytes that new replicas may take; the weight of the peer
	Usable bool   // may be given new replicas: up, healthy, not excluded
	Live   bool   // what it holds counts: it has its replicas now, or will be back in time
	Tags   map[string]string
	Why    string // why it is not Usable, for the messages; may be empty
}

// zoneTag is the tag whose values replicas are spread over.
const zoneTag = "zone"

// Request is what is known of a pin and of the peers.
type Request struct {
	Cid        cid.Cid
	Min, Max   int       // replicas, defaults resolved: both above 0, or both -1 for every peer
	Prefer     []peer.ID // the user's wish: these first, in this order, as far as they are usable
	Have       []peer.ID // present allocations
	Candidates []Candidate
}

// Decision says who should hold the pin. Allocations are the kept peers in the
// order of Have, then the added ones, best first; empty for every peer.
type Decision struct {
	Allocations    []peer.ID
	Added, Dropped []peer.ID // the difference to Have
}

// Reason says why one peer holds the pin or does not.
type Reason struct {
	Peer   peer.ID
	Chosen bool
	Text   string
}

// Place decides. It keeps live replicas unless there are more than Max, and
// fills up to Max with usable peers, spread over zones. A replica that is not
// live is kept only while nobody takes its place. Errors: invalid for factors
// that make no sense, not_enough_peers when fewer than Min peers can hold it.
//
// The answer depends on the request alone.
func Place(r Request) (Decision, error) {
	p, err := place(r)
	if p == nil || err != nil {
		return Decision{}, err
	}
	return p.decision(), nil
}

// Explain says why Place decides as it does: for each candidate, in their order,
// then for peers of the request that are none. Errors: those of Place.
func Explain(r Request) ([]Reason, error) {
	p, err := place(r)
	if p == nil || err != nil {
		return nil, err
	}
	return p.reasons(p.decision().Allocations), nil
}

// place decides; nil: every peer holds the pin.
func place(r Request) (*placement, error) {
	if r.Min == api.Everywhere && r.Max == api.Everywhere {
		return nil, nil
	}
	if r.Min <= 0 || r.Max < r.Min {
		return nil, api.Errorf(api.CodeInvalid, "cannot place %s with replication factors min %d and max %d: give 1 <= min <= max, or -1 for both", r.Cid, r.Min, r.Max)
	}
	p := newPlacement(r)
	p.keepLive()
	p.addPreferred()
	p.addByScore()
	if len(p.chosen) < r.Min {
		return nil, p.notEnough()
	}
	p.keepAbsent()
	return p, nil
}

// option is a candidate while a decision is made.
type option struct {
	Candidate
	score   float64
	have    bool
	prefer  int // rank in Prefer from 0, or len(Prefer)
	verdict verdict
}

// verdict is what became of a candidate.
type verdict int

const (
	undecided verdict = iota
	keptLive
	keptAbsent
	chosenPreferred
	chosenByScore
	chosenForZone
	droppedSpare
	droppedAbsent
	notNeeded
)

// refused says that the peer may not be given a new replica.
func (o *option) refused() bool { return !o.Usable || o.Free == 0 }

type placement struct {
	Request
	options []option // in the order of Candidates
	byID    map[peer.ID]*option
	chosen  []*option
}

func newPlacement(r Request) *placement {
	p := &placement{Request: r, options: make([]option, 0, len(r.Candidates)), byID: make(map[peer.ID]*option, len(r.Candidates)),
		chosen: make([]*option, 0, min(r.Max, len(r.Candidates)))}
	key := contentKey(r.Cid)
	for _, c := range r.Candidates {
		if p.byID[c.ID] != nil {
			continue // a peer counts once; what was said first holds
		}
		prefer := slices.Index(r.Prefer, c.ID)
		if prefer < 0 {
			prefer = len(r.Prefer)
		}
		p.options = append(p.options, option{Candidate: c, score: score(key, c.ID, c.Free), have: slices.Contains(r.Have, c.ID), prefer: prefer})
		p.byID[c.ID] = &p.options[len(p.options)-1] // there is room for all
	}
	return p
}

func (p *placement) choose(o *option, verdict verdict) {
	o.verdict = verdict
	p.chosen = append(p.chosen, o)
}

// keepLive keeps what the pin has, as far as it counts. Above Max those go
// first that could not be chosen again, then those that nobody asked for, then
// those of the lowest score.
func (p *placement) keepLive() {
	var live []*option
	for _, id := range p.Have {
		if o := p.byID[id]; o != nil && o.Live && !slices.Contains(live, o) {
			live = append(live, o)
		}
	}
	if len(live) > p.Max {
		slices.SortStableFunc(live, func(a, b *option) int {
			switch {
			case a.refused() != b.refused():
				if b.refused() {
					return -1
				}
				return 1
			case a.prefer != b.prefer:
				return a.prefer - b.prefer
			}
			return byScore(a, b)
		})
		for _, o := range live[p.Max:] {
			o.verdict = droppedSpare
		}
		live = live[:p.Max]
	}
	for _, o := range live {
		p.choose(o, keptLive)
	}
}

// addPreferred takes the peers that the user asked for.
func (p *placement) addPreferred() {
	for _, id := range p.Prefer {
		o := p.byID[id]
		if len(p.chosen) == p.Max || o == nil || o.refused() || slices.Contains(p.chosen, o) {
			continue
		}
		p.choose(o, chosenPreferred)
	}
}

// addByScore fills up with the highest scores: first from zones that hold no
// replica yet, then from all.
func (p *placement) addByScore() {
	if len(p.chosen) == p.Max {
		return
	}
	var free []*option
	zones := map[string]bool{}
	for i := range p.options {
		if o := &p.options[i]; !o.refused() && !slices.Contains(p.chosen, o) {
			free = append(free, o)
		}
	}
	for _, o := range p.chosen {
		zones[o.Tags[zoneTag]] = true
	}
	slices.SortFunc(free, byScore)
	for len(p.chosen) < p.Max && len(free) > 0 {
		next := slices.IndexFunc(free, func(o *option) bool { return !zones[o.Tags[zoneTag]] })
		verdict := chosenByScore
		if next < 0 {
			next = 0
		} else if next > 0 {
			verdict = chosenForZone
		}
		o := free[next]
		zones[o.Tags[zoneTag]] = true
		p.choose(o, verdict)
		free = slices.Delete(free, next, next+1)
	}
	for _, o := range free {
		o.verdict = notNeeded
	}
}

// keepAbsent keeps peers that are members but not live, where nobody came in
// their place: they may return with their replica.
func (p *placement) keepAbsent() {
	for _, id := range p.Have {
		o := p.byID[id]
		if o == nil || slices.Contains(p.chosen, o) || o.Live {
			continue
		}
		if len(p.chosen) == p.Max {
			o.verdict = droppedAbsent
			continue
		}
		p.choose(o, keptAbsent)
	}
}

func (p *placement) decision() Decision {
	var d Decision
	for _, id := range p.Have {
		o := p.byID[id]
		switch {
		case o != nil && slices.Contains(p.chosen, o):
			if !slices.Contains(d.Allocations, id) {
				d.Allocations = append(d.Allocations, id)
			}
		case !slices.Contains(d.Dropped, id):
			d.Dropped = append(d.Dropped, id)
		}
	}
	for _, o := range p.chosen {
		if !o.have {
			d.Added = append(d.Added, o.ID)
		}
	}
	d.Allocations = append(d.Allocations, d.Added...)
	return d
}

func (p *placement) reasons(chosen []peer.ID) []Reason {
	var out []Reason
	for i := range p.options {
		o := &p.options[i]
		out = append(out, Reason{Peer: o.ID, Chosen: slices.Contains(chosen, o.ID), Text: p.text(o)})
	}
	for _, id := range p.Have {
		if p.byID[id] == nil {
			out = append(out, Reason{Peer: id, Text: "dropped: it is not a peer of this cluster"})
		}
	}
	for _, id := range p.Prefer {
		if p.byID[id] == nil && !slices.Contains(p.Have, id) {
			out = append(out, Reason{Peer: id, Text: "not chosen: the request prefers it, but it is not a peer of this cluster"})
		}
	}
	return out
}

// text is the verdict in words, or why there was none.
func (p *placement) text(o *option) string {
	switch o.verdict {
	case keptLive:
		return "kept: holds a live replica"
	case keptAbsent:
		return "kept: it is not live, but nobody can take its place"
	case chosenPreferred:
		return "chosen: the request prefers it"
	case chosenByScore:
		return "chosen: the highest score by content and free space"
	case chosenForZone:
		return fmt.Sprintf("chosen: the highest score in a zone (%s) that holds no replica yet", zoneName(o))
	case droppedSpare:
		return fmt.Sprintf("dropped: there are more than %d live replicas, and others come before it", p.Max)
	case droppedAbsent:
		return "dropped: it is not live, and others took its place"
	case notNeeded:
		return fmt.Sprintf("not chosen: %d replicas are enough, and others come before it", p.Max)
	}
	switch {
	case !o.Usable && o.Why != "":
		return "not usable: " + o.Why
	case !o.Usable:
		return "not usable: it is not up, its IPFS node is broken, or it is excluded"
	case o.Free == 0:
		return "not usable: it has no free space"
	}
	return "not chosen: there are enough replicas"
}

func zoneName(o *option) string {
	if zone := o.Tags[zoneTag]; zone != "" {
		return zone
	}
	return "none"
}

// maxNamed bounds the peers that an error names.
const maxNamed = 8

func (p *placement) notEnough() error {
	var able, refused []string
	for i := range p.options {
		o := &p.options[i]
		if slices.Contains(p.chosen, o) {
			able = append(able, o.ID.String())
		} else {
			refused = append(refused, fmt.Sprintf("%s is %s", o.ID, p.text(o)))
		}
	}
	for _, id := range p.Have {
		if p.byID[id] == nil {
			refused = append(refused, fmt.Sprintf("%s is not a peer of this cluster any more", id))
		}
	}
	text := fmt.Sprintf("pin %s needs at least %d peers, but %d can hold it", p.Cid, p.Min, len(able))
	if len(able) > 0 {
		text += ": " + named(able, ", ")
	}
	if len(refused) > 0 {
		text += "; " + named(refused, "; ")
	}
	return api.Errorf(api.CodeNotEnoughPeers, "%s. Lower the replication factors, or add or repair peers ('cluster-ctl peers ls' shows them)", text)
}

func named(texts []string, separator string) string {
	if more := len(texts) - maxNamed; more > 0 {
		texts = append(slices.Clone(texts[:maxNamed]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, separator)
}

package pintracker

import (
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// named bounds how many pins a condition names.
const named = 5

// Conditions are what is wrong with this peer's pins now: how many, and the
// first few of them.
func (t *Tracker) Conditions() []api.Condition {
	s := t.store
	s.counting.Lock()
	n := s.kinds
	s.counting.Unlock()
	var out []api.Condition
	if n[kindLost] > 0 {
		message := fmt.Sprintf("%s on this peer, and what is missing is fetched again from other replicas", pinsAre(n[kindLost], "not whole any more"))
		if n[kindUnmended] > 0 {
			message += fmt.Sprintf("; for %d of them that has failed so far: bring back a peer that has the blocks, or add the content again, or unpin it", n[kindUnmended])
		}
		filter := api.StatusPinError | api.StatusPinQueued | api.StatusPinning
		if n[kindUnmended] > 0 {
			filter = api.StatusPinError
		}
		out = append(out, api.Condition{Name: api.AlertPinsLost, Message: message + t.examples(filter, kindLost)})
	}
	if n[kindUnusable] > 0 {
		out = append(out, api.Condition{Name: api.AlertPinsUnusable,
			Message: fmt.Sprintf("%s: no attempt will ever succeed; unpin them, or pin single blocks of them with mode direct", pinsAre(n[kindUnusable], "of content that cannot be pinned")) +
				t.examples(api.StatusPinError, kindUnusable)})
	}
	return out
}

func pinsAre(n uint64, what string) string {
	if n == 1 {
		return "1 pin is " + what
	}
	return fmt.Sprintf("%d pins are %s", n, what)
}

// examples names pins of a kind that are among the first of a status.
func (t *Tracker) examples(filter api.TrackerStatus, kind int) string {
	page, err := t.store.page(filter, "", pageSize)
	if err != nil {
		return "" // the tracker's end is told elsewhere
	}
	var out []string
	for _, e := range page {
		c, err := cid.Cast([]byte(e.cid))
		if err != nil || !e.rec.isOf()[kind] {
			continue
		}
		if len(out) == named {
			break
		}
		out = append(out, fmt.Sprintf("%s (%s)", c, e.rec.trouble()))
	}
	if len(out) == 0 {
		return ""
	}
	return ". Among them: " + strings.Join(out, ", ")
}

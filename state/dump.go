package state

import (
	"context"

	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/state/statepb"
)

// Dump shows the whole pinset as it is at one moment: begin gets the log index
// of that moment, then each gets the pins in the order of their CIDs' bytes.
// What is applied meanwhile is not in it. An error of either ends the dump and
// is returned. It uses constant memory.
func (p *Pinset) Dump(begin func(applied uint64) error, each func(api.Pin) error) error {
	return p.selected(context.Background(), api.PinFilter{}, func(s *selection) error {
		if err := begin(s.meta.Applied); err != nil {
			return err
		}
		return s.each(func(c cid.Cid, stored *statepb.Pin) (bool, error) {
			pin, err := pinFromProto(c, stored, *s.g.peers.Load())
			if err != nil {
				return false, err
			}
			return true, each(pin)
		})
	})
}

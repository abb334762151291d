package pintracker

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// lookAtAll has every pin looked at soon.
func (t *Tracker) lookAtAll() {
	t.mu.Lock()
	t.hurry = true
	t.mu.Unlock()
	wake(t.wakeHurry)
}

// hurriedWalks look at all pins when there is reason to: damage was found, and
// which pins have the damaged blocks is not known, or somebody asks for it.
func (t *Tracker) hurriedWalks(ctx context.Context) error {
	timer := time.NewTimer(damageWait)
	defer timer.Stop()
	for {
		damage := false
		select {
		case <-t.node.DamageFound():
			damage = true
		case <-t.wakeHurry:
		case <-timer.C:
			damage = len(t.node.Damaged()) > 0
		case <-ctx.Done():
			return nil
		}
		t.mu.Lock()
		asked := t.hurry
		t.hurry = false
		t.mu.Unlock()
		if damage {
			if err := t.checkDamaged(ctx); err != nil {
				return err
			}
			sleep(ctx, damageGrace)
		}
		if asked || damage {
			speed, mended := &pace{blocks: askedPace, bytes: askedBytes}, func() bool { return false }
			if !asked {
				speed, mended = &pace{blocks: damagePace, bytes: damageBytes}, func() bool { return len(t.node.Damaged()) == 0 }
			}
			if err := t.walkAll(ctx, speed, mended); err != nil {
				return err
			}
		}
		timer.Reset(damageWait)
	}
}

// checkDamaged looks at the pins of damaged blocks themselves, which are found
// without a walk: most pins are one block.
func (t *Tracker) checkDamaged(ctx context.Context) error {
	for _, c := range t.node.Damaged() {
		pins := []cid.Cid{cid.NewCidV1(cid.Raw, c.Hash()), cid.NewCidV1(cid.DagProtobuf, c.Hash()), cid.NewCidV1(cid.DagCBOR, c.Hash())}
		if p := c.Prefix(); p.MhType == 0x12 && p.MhLength == 32 { // all that a CID of version 0 can be
			pins = append(pins, cid.NewCidV0(c.Hash()))
		}
		for _, pin := range pins {
			if _, err := t.check(ctx, pin.KeyString(), nil); err != nil || ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

// walkAll looks at all pins, or until enough.
func (t *Tracker) walkAll(ctx context.Context, speed *pace, enough func() bool) error {
	for after := ""; ctx.Err() == nil && !enough(); {
		page, err := t.store.page(api.StatusPinned, after, pageSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			if err := t.checkOne(ctx, e.cid, speed); err != nil || ctx.Err() != nil || enough() {
				return err
			}
			after = e.cid
		}
	}
	return nil
}

// checkOne is check for a walk, which goes on where a pin cannot be looked at.
func (t *Tracker) checkOne(ctx context.Context, key string, speed *pace) error {
	cannot, err := t.check(ctx, key, speed.wait)
	if cannot != nil && ctx.Err() == nil {
		t.logger.Warn("a pin cannot be looked at now", "cid", fmt.Sprintf("%x", key), "err", cannot)
		sleep(ctx, time.Second) // whatever it is, it need not be met at full speed
	}
	return err
}

// walkState is how far the slow walk has got. It is kept, so that a peer that
// is started every day gets to the end, too.
type walkState struct {
	begun   int64 // by the tracker's clock
	running bool
	after   string // the last CID that was looked at
}

func (w walkState) encode() string {
	running := byte(0)
	if w.running {
		running = 1
	}
	return string(append(binary.BigEndian.AppendUint64(nil, uint64(w.begun)), running)) + w.after
}

func decodeWalk(text string) walkState {
	if len(text) < 9 {
		return walkState{} // there was none yet
	}
	return walkState{begun: int64(binary.BigEndian.Uint64([]byte(text[:8]))), running: text[8] == 1, after: text[9:]}
}

// slowWalks looks at all blocks of all pins, again and again, so slowly that
// nobody feels it: what is lost without anybody having read it is found, and
// fetched from others while they have it.
func (t *Tracker) slowWalks(ctx context.Context) error {
	text, err := t.store.text(keyWalk)
	if err != nil {
		return err
	}
	state := decodeWalk(text)
	speed := &pace{blocks: t.cfg.WalkPace, bytes: t.cfg.WalkPace * walkBlock}
	for ctx.Err() == nil {
		if !state.running {
			// A time of an earlier run may be of a clock that was wrong.
			wait := min(t.cfg.WalkEvery, time.Duration(state.begun-t.clock.tick())+t.cfg.WalkEvery)
			if state.begun != 0 && wait > 0 && !sleep(ctx, wait) {
				return nil
			}
			state = walkState{begun: t.clock.tick(), running: true}
		}
		if err := t.slowWalk(ctx, &state, speed); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tracker) slowWalk(ctx context.Context, state *walkState, speed *pace) error {
	noted := time.Now()
	note := func() error {
		noted = time.Now()
		return t.store.setText(keyWalk, state.encode(), pebble.NoSync)
	}
	for ctx.Err() == nil {
		page, err := t.store.page(api.StatusPinned, state.after, pageSize)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			state.running, state.after = false, ""
			return note()
		}
		for _, e := range page {
			if err := t.checkOne(ctx, e.cid, speed); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return note()
			}
			state.after = e.cid
			if time.Since(noted) >= walkNoted {
				if err := note(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"holdfast/state/statepb"
)

// Check compares everything that is derived from the pins, indexes, counters
// and the bounds of the two memories, with what it is derived from, and calls
// report with each disagreement in words. It returns how many pins it looked
// at. An error says that the database could not be read to its end, or that
// ctx ended.
//
// It reads the pins once and each index once, in order and in constant memory,
// as they were when it began, and holds nothing up. Only an index that
// disagrees is gone through key by key.
func (p *Pinset) Check(ctx context.Context, report func(problem string)) (checked uint64, err error) {
	g, err := p.acquire()
	if err != nil {
		return 0, err
	}
	defer p.release(g)
	snapshot := g.db.NewSnapshot()
	defer snapshot.Close()
	k := &checker{r: snapshot, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		types: make([]uint64, len(typeNames)), holders: map[uint32]uint64{}, want: map[byte]digest{}}
	k.report = func(format string, args ...any) { report(fmt.Sprintf(format, args...)) }
	k.stop = func() error {
		if p.closing.Load() {
			return errClosed()
		}
		return ctx.Err()
	}
	if err := k.all(); err != nil {
		return k.pins, fmt.Errorf("check pinset: %w", err)
	}
	return k.pins, nil
}

// digest stands for a set of keys, whatever their order: their number, and the
// sums of two hashes of each. Two sets that differ have the same one with a
// chance of 1 in 2^128, and nobody can choose them so, because the hashes are
// seeded anew for each check.
type digest struct{ keys, sum1, sum2 uint64 }

type checker struct {
	r      pebble.Reader
	report func(format string, args ...any)
	stop   func() error // an error: the check shall end
	seeds  [2]maphash.Seed

	meta  *statepb.Meta
	peers uint32 // in the peer table

	// What the pins come to.
	pins, everywhere uint64
	types            []uint64
	holders          map[uint32]uint64
	want             map[byte]digest
	keys             indexKeys
}

func (k *checker) all() error {
	var err error
	if k.meta, err = loadMeta(k.r); err != nil {
		return err
	}
	for _, step := range []func() error{k.checkPeers, k.readPins, k.checkCounts, k.checkIndexes, k.checkChanges, k.checkRequests} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// scan is scan that ends when the check shall.
func (k *checker) scan(prefix byte, fn func(key, value []byte) error) error {
	return scan(k.r, []byte{prefix}, func(key, value []byte) error {
		if err := k.stop(); err != nil {
			return err
		}
		return fn(key, value)
	})
}

func (k *checker) checkPeers() error {
	seen := map[peer.ID]uint32{}
	err := k.scan(prefixPeer, func(key, value []byte) error {
		k.peers++
		if len(key) != 5 || binary.BigEndian.Uint32(key[1:]) != k.peers {
			k.report("the peer table has the key %x where number %d is due", key, k.peers)
		}
		id, err := peer.IDFromBytes(value)
		if err != nil {
			k.report("number %d of the peer table is no peer: %x", k.peers, value)
		}
		if other, twice := seen[id]; twice {
			k.report("peer %s has two numbers in the peer table, %d and %d", id, other, k.peers)
		}
		seen[id] = k.peers
		return nil
	})
	if k.peers != k.meta.Peers {
		k.report("the peer table has %d peers, its counter says %d", k.peers, k.meta.Peers)
	}
	return err
}

// readPins looks at every pin, and gathers what shall stand elsewhere.
func (k *checker) readPins() error {
	return k.scan(prefixPin, func(key, value []byte) error {
		pin := k.decode(key, value, true)
		k.pins++
		if pin == nil {
			return nil
		}
		if number := int(pin.Type); number >= 0 && number < len(k.types) {
			k.types[number]++
		}
		for _, number := range indexed(pin) {
			if number == everywhere {
				k.everywhere++
			} else {
				k.holders[number]++
			}
		}
		k.keys.fill(key[1:], pin)
		for _, indexKey := range k.keys.keys {
			k.want[indexKey[0]] = k.add(k.want[indexKey[0]], indexKey)
		}
		return nil
	})
}

func (k *checker) add(d digest, key []byte) digest {
	return digest{keys: d.keys + 1, sum1: d.sum1 + maphash.Bytes(k.seeds[0], key), sum2: d.sum2 + maphash.Bytes(k.seeds[1], key)}
}

// decode reads a pin, and tells what is wrong with it if asked to. nil: it
// cannot be read.
func (k *checker) decode(key, value []byte, tell bool) *statepb.Pin {
	complain := func(format string, args ...any) {
		if tell {
			k.report(format, args...)
		}
	}
	c, err := cid.Cast(key[1:])
	if err != nil {
		complain("the key %x of a pin holds no CID: %v", key, err)
		return nil
	}
	pin := &statepb.Pin{}
	if err := pin.UnmarshalVTUnsafe(value); err != nil {
		complain("the pin %s cannot be decoded: %v", c, err)
		return nil
	}
	if typeNames[pin.Type] == "" {
		complain("the pin %s has the unknown type %d", c, pin.Type)
	}
	if _, known := statepb.Mode_name[int32(pin.Mode)]; !known {
		complain("the pin %s has the unknown mode %d", c, pin.Mode)
	}
	if pin.Revision == 0 || pin.Revision > k.meta.Applied {
		complain("the pin %s has revision %d, the pinset is at %d", c, pin.Revision, k.meta.Applied)
	}
	if pin.Timestamp == nil {
		complain("the pin %s has no creation time", c)
	}
	for _, number := range pin.Holders {
		if number == everywhere || number > k.peers {
			complain("the pin %s is allocated to peer number %d, which is not in the peer table", c, number)
		}
	}
	return pin
}

func (k *checker) checkCounts() error {
	if k.pins != k.meta.Pins {
		k.report("there are %d pins, the counter says %d", k.pins, k.meta.Pins)
	}
	if k.everywhere != k.meta.Everywhere {
		k.report("there are %d pins for every peer, the counter says %d", k.everywhere, k.meta.Everywhere)
	}
	for number, counted := range k.meta.Types {
		got := uint64(0)
		if number < len(k.types) {
			got = k.types[number]
		}
		if got != counted {
			k.report("there are %d pins of the type %q, the counter says %d", got, typeNames[statepb.Type(number)], counted)
		}
	}
	return k.checkHolders()
}

func (k *checker) checkHolders() error {
	err := k.scan(prefixPeerPins, func(key, value []byte) error {
		if len(key) != 5 || len(value) != 8 {
			k.report("the counter of pins of a peer under key %x has %d bytes, want 8", key, len(value))
			return nil
		}
		number, counted := binary.BigEndian.Uint32(key[1:]), binary.BigEndian.Uint64(value)
		if got := k.holders[number]; got != counted {
			k.report("there are %d pins of peer number %d, the counter says %d", got, number, counted)
		}
		delete(k.holders, number)
		return nil
	})
	for _, number := range slices.Sorted(maps.Keys(k.holders)) {
		k.report("there are %d pins of peer number %d, and no counter", k.holders[number], number)
	}
	return err
}

func (k *checker) checkIndexes() error {
	for _, index := range indexPrefixes {
		var got digest
		err := k.scan(index.prefix, func(key, value []byte) error {
			got = k.add(got, key)
			if len(value) > 0 {
				k.report("the %s has a value of %d bytes under key %x, and should have none", index.words, len(value), key)
			}
			return nil
		})
		if err == nil && got != k.want[index.prefix] {
			err = errors.Join(k.missing(index.prefix, index.words), k.superfluous(index.prefix, index.words))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// missing looks every key up that the pins ask for.
func (k *checker) missing(prefix byte, words string) error {
	it, err := k.r.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: after([]byte{prefix})})
	if err != nil {
		return err
	}
	err = k.scan(prefixPin, func(key, value []byte) error {
		pin := k.decode(key, value, false)
		if pin == nil {
			return nil
		}
		k.keys.fill(key[1:], pin)
		for _, indexKey := range k.keys.keys {
			if indexKey[0] == prefix && !(it.SeekGE(indexKey) && bytes.Equal(it.Key(), indexKey)) {
				if err := it.Error(); err != nil { // the next seek forgets it
					return err
				}
				k.report("the %s lacks the pin %s: no key %x", words, cidText(key[1:]), indexKey)
			}
		}
		return nil
	})
	return errors.Join(err, it.Close())
}

// superfluous looks the pin of every key up.
func (k *checker) superfluous(prefix byte, words string) error {
	return k.scan(prefix, func(key, _ []byte) error {
		data, ok := cidOf(key)
		if !ok {
			k.report("the %s has the damaged key %x", words, key)
			return nil
		}
		value, found, err := get(k.r, pinKey(data))
		if err != nil {
			return err
		}
		if !found {
			k.report("the %s names %s, which is not pinned: key %x", words, cidText(data), key)
			return nil
		}
		pin := k.decode(pinKey(data), value, false)
		if pin == nil {
			return nil // told already
		}
		if k.keys.fill(data, pin); !slices.ContainsFunc(k.keys.keys, func(want []byte) bool { return bytes.Equal(want, key) }) {
			k.report("the %s has the pin %s under the wrong key %x", words, cidText(data), key)
		}
		return nil
	})
}

// cidText is the text of a CID, or what it should have been made of.
func cidText(data []byte) string {
	c, err := cid.Cast(data)
	if err != nil {
		return fmt.Sprintf("%x", data)
	}
	return c.String()
}

// checkChanges checks the bounds of the change feed.
func (k *checker) checkChanges() error {
	changes, indexes := uint64(0), uint64(0)
	err := k.scan(prefixChange, func(key, value []byte) error {
		decoded := &statepb.Changes{}
		if err := proto.Unmarshal(value, decoded); err != nil || len(key) != 9 {
			k.report("the change feed cannot be read under key %x: %v", key, err)
			return nil
		}
		index := binary.BigEndian.Uint64(key[1:])
		if index <= k.meta.ChangeFloor || index > k.meta.Applied {
			k.report("the change feed holds index %d, its bounds are %d and %d", index, k.meta.ChangeFloor, k.meta.Applied)
		}
		for _, data := range decoded.Cids {
			if _, err := cid.Cast(data); err != nil {
				k.report("the change feed holds %x at index %d, which is no CID", data, index)
			}
		}
		changes += uint64(len(decoded.Cids))
		indexes++
		return nil
	})
	if changes != k.meta.Changes {
		k.report("the change feed holds %d changes, the counter says %d", changes, k.meta.Changes)
	}
	if indexes != k.meta.ChangeIndexes {
		k.report("the change feed holds %d log indexes, the counter says %d", indexes, k.meta.ChangeIndexes)
	}
	return err
}

// checkRequests checks that the remembered requests and their outcomes match.
func (k *checker) checkRequests() error {
	total := uint64(0)
	err := k.scan(prefixRequests, func(key, value []byte) error {
		if len(key) != 9 || len(value)%requestIDBytes != 0 {
			k.report("the memory of requests cannot be read under key %x", key)
			return nil
		}
		index, ids := binary.BigEndian.Uint64(key[1:]), len(value)/requestIDBytes
		total += uint64(ids)
		if index <= k.meta.RequestFloor || index > k.meta.Applied {
			k.report("the memory of requests holds index %d, its bounds are %d and %d", index, k.meta.RequestFloor, k.meta.Applied)
		}
		stored, found, err := get(k.r, indexKey(prefixOutcomes, index))
		if err != nil {
			return err
		}
		outcomes := &statepb.Outcomes{}
		if err := proto.Unmarshal(stored, outcomes); err != nil || !found || len(outcomes.Outcomes) != ids {
			k.report("log index %d brought %d requests, and %d of their outcomes can be read", index, ids, len(outcomes.Outcomes))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if total != k.meta.Requests {
		k.report("%d requests are remembered, the counter says %d", total, k.meta.Requests)
	}
	return k.scan(prefixOutcomes, func(key, _ []byte) error {
		if _, found, err := get(k.r, append([]byte{prefixRequests}, key[1:]...)); err != nil || found {
			return err
		}
		k.report("outcomes of requests under key %x, and no requests", key)
		return nil
	})
}

package fake

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/node/internal/dag"
)

// Disk is what survives a node: identity, blocks and pins. It belongs to one
// running node at a time.
type Disk struct {
	id peer.ID

	mu       sync.Mutex
	wipes    int    // how often it was emptied
	capacity uint64 // bytes of blocks; 0: no limit
	used     uint64
	blocks   map[string][]byte // by multihash
	unsynced map[string]bool   // blocks that a crash loses
	own      map[cid.Cid]api.PinMode
	user     map[cid.Cid]api.PinMode
	damaged  map[string]bool // blocks that were found damaged, and count as missing
	holder   *Node           // the node that runs on it
}

// NewDisk makes an empty disk of a node with this identity.
func NewDisk(id peer.ID) *Disk {
	return &Disk{id: id, blocks: map[string][]byte{}, unsynced: map[string]bool{}, damaged: map[string]bool{},
		own: map[cid.Cid]api.PinMode{}, user: map[cid.Cid]api.PinMode{}}
}

// SetCapacity sets how many bytes of blocks fit; 0 is no limit. A disk that
// already holds more is full.
func (d *Disk) SetCapacity(bytes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes
}

// Crash takes the disk from the node that runs on it, as a power failure
// would: blocks written since the last Pin or Unpin are lost. The node can
// write no more; end its Run then.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.unsynced {
		d.used -= uint64(len(d.blocks[key]))
		delete(d.blocks, key)
	}
	clear(d.unsynced)
	d.holder = nil
}

// Lose removes a block behind everybody's back, as a bad sector would.
func (d *Disk) Lose(c cid.Cid) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(dag.Key(c))
}

// Damage spoils a block, and the node that runs on the disk finds it: from now
// on the block is missing, and among those that the node calls damaged.
func (d *Disk) Damage(c cid.Cid) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(dag.Key(c))
	d.damaged[dag.Key(c)] = true
	if d.holder != nil {
		d.holder.signalDamage()
	}
}

// Spoil changes a block's bytes behind everybody's back. Whoever reads it finds
// out: it is damaged from then on.
func (d *Disk) Spoil(c cid.Cid) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if data := slices.Clone(d.blocks[dag.Key(c)]); len(data) > 0 {
		data[0] ^= 1
		d.blocks[dag.Key(c)] = data
	}
}

// Scrub reads all blocks.
func (d *Disk) Scrub() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(d.blocks)) {
		_, _ = d.read(key)
	}
}

// Wipe makes the disk what one with a new repository is: empty, and of another
// RepoID. The node's identity stays. No node runs on it meanwhile.
func (d *Disk) Wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wipes++
	d.used = 0
	clear(d.blocks)
	clear(d.unsynced)
	clear(d.damaged)
	clear(d.own)
	clear(d.user)
}

// PinByUser pins as a user of the node would, past the cluster; mode "" unpins.
func (d *Disk) PinByUser(c cid.Cid, mode api.PinMode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if mode == "" {
		delete(d.user, c)
		return
	}
	d.user[c] = mode
}

// PinnedByUser returns the mode of the user's pin, or "".
func (d *Disk) PinnedByUser(c cid.Cid) api.PinMode {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.user[c]
}

// Pins returns what the cluster has pinned, ordered by the CIDs' bytes.
func (d *Disk) Pins() []cid.Cid {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Keys(d.own), func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
}

// Has says whether a block is there, with the bytes of its CID. It is no read: what
// is spoilt stays unnoticed.
func (d *Disk) Has(c cid.Cid) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	data, ok := d.blocks[dag.Key(c)]
	return ok && hasHash(dag.Key(c), data)
}

func (d *Disk) block(key string) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read(key)
}

// read returns a block, or marks it as damaged if its bytes are others (INV-BYTES).
func (d *Disk) read(key string) ([]byte, bool) {
	data, ok := d.blocks[key]
	if !ok || hasHash(key, data) {
		return data, ok
	}
	d.remove(key)
	d.damaged[key] = true
	if d.holder != nil {
		d.holder.signalDamage()
	}
	return nil, false
}

func hasHash(key string, data []byte) bool {
	c := cid.NewCidV1(cid.Raw, []byte(key))
	sum, err := c.Prefix().Sum(data)
	return err == nil && sum.Equals(c)
}

func (d *Disk) acquire(n *Node) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holder != nil {
		return false
	}
	d.holder = n
	return true
}

// release syncs what an orderly stop would, and lets go.
func (d *Disk) release(n *Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holder == n {
		clear(d.unsynced)
		d.holder = nil
	}
}

func (d *Disk) remove(key string) {
	d.used -= uint64(len(d.blocks[key]))
	delete(d.blocks, key)
	delete(d.unsynced, key)
	delete(d.damaged, key)
}

func (d *Disk) free() uint64 {
	if d.capacity == 0 {
		return 1 << 40
	}
	return d.capacity - min(d.capacity, d.used)
}

// write changes the disk for a node, unless it was taken from it.
func (d *Disk) write(n *Node, change func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holder != n {
		return api.Errorf(api.CodeUnavailable, "the disk is gone")
	}
	return change()
}

package api

import (
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// MaxAddDepth is how deep the folders of one add nest, the one at the top
// counted. Whoever walks them goes one call deeper for each.
const MaxAddDepth = 1024

// ErrTooDeep refuses an add whose folders nest deeper.
var ErrTooDeep = Errorf(CodeInvalid, "the folders nest deeper than %d levels, the most that one add takes; nothing was pinned: put the deep part into an archive", MaxAddDepth)

// AddParams say how uploaded files become a DAG. NewAddParams has the defaults.
type AddParams struct {
	PinOptions
	Format         string // unixfs or car
	Layout         string // balanced (or "") or trickle
	Chunker        string // size-262144, rabin…, buzhash
	RawLeaves      bool
	CidVersion     int
	HashFun        string // name of a multihash
	Wrap           bool   // wrap-with-directory
	Local          bool   // write to the asked peer only; the others fetch
	Progress       bool   // also emit outputs that only count bytes
	StreamChannels bool   // stream the outputs; false: one JSON array at the end
	NoPin          bool   // write the blocks, pin nothing
	OnlyHash       bool   // compute the CIDs, write nothing
	// ManyRoots lets an upload of format car have several CARs with any number
	// of roots, each of which is pinned; otherwise it is one CAR with one root.
	ManyRoots bool
	RequestID string
}

// NewAddParams returns what the incumbent and ipfs add do by default.
func NewAddParams() AddParams {
	return AddParams{Format: "unixfs", Chunker: "size-262144", HashFun: "sha2-256", StreamChannels: true,
		PinOptions: PinOptions{Mode: ModeRecursive}}
}

// AddedOutput tells of one file or directory that was added; with an
// undefined CID it is progress: Bytes were read of the file.
type AddedOutput struct {
	Name        string    `json:"name"`
	Cid         Cid       `json:"cid"`
	Bytes       uint64    `json:"bytes,omitempty"`
	Size        uint64    `json:"size,omitempty"` // cumulative size of the DAG
	Allocations []peer.ID `json:"allocations,omitempty"`

	// What only Kubo's clients are told of.
	Blocks uint64      `json:"-"` // of a CAR
	Mode   os.FileMode `json:"-"` // of the top entry of the upload; 0: not sent
	Mtime  time.Time   `json:"-"` // likewise; zero: not sent
}

// Placement is where the blocks of an add go: the peers that shall hold the
// pin, and how many of them must succeed.
type Placement struct {
	Peers []peer.ID
	Min   int
	// Everywhere says that the pin is for every peer, present and future.
	Everywhere bool
}

// Block is one block on its way between peers; who receives it verifies it.
type Block struct {
	Cid  Cid
	Data []byte
}

// BlockBatch is a frame of a stream of blocks; End marks the last one, so that
// a stream that was cut off is not taken for a whole one.
type BlockBatch struct {
	Blocks []Block
	End    bool
}

package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// PinMode says how much of a DAG a pin keeps.
type PinMode string

// The modes. A direct pin keeps the one block of its CID.
const (
	ModeRecursive PinMode = "recursive"
	ModeDirect    PinMode = "direct"
)

// ParsePinMode reads a mode; "" is recursive, anything unknown is invalid.
func ParsePinMode(text string) (PinMode, error) {
	switch PinMode(text) {
	case "", ModeRecursive:
		return ModeRecursive, nil
	case ModeDirect:
		return ModeDirect, nil
	}
	return "", Errorf(CodeInvalid, "unknown pin mode %q; it is recursive or direct", text)
}

// MaxDepth is the depth that the incumbent's JSON shows for a mode: -1 for the
// whole DAG, 0 for the one block.
func (m PinMode) MaxDepth() int {
	if m == ModeDirect {
		return 0
	}
	return -1
}

// PinType is the incumbent's kind of a pin. We make data pins only; the other
// names are known so that filters and imports can speak of them.
type PinType string

// The types. TypeAll is for filters.
const (
	TypeData       PinType = "pin"
	TypeMeta       PinType = "meta-pin"
	TypeClusterDAG PinType = "clusterdag-pin"
	TypeShard      PinType = "shard-pin"
	TypeAll        PinType = "all"
)

// ParsePinType reads the name of a type; an unknown one is invalid.
func ParsePinType(text string) (PinType, error) {
	t := PinType(text)
	if slices.Contains([]PinType{TypeData, TypeMeta, TypeClusterDAG, TypeShard, TypeAll}, t) {
		return t, nil
	}
	return "", Errorf(CodeInvalid, "unknown pin type %q; the types are pin, meta-pin, clusterdag-pin, shard-pin and all", text)
}

// Everywhere as a replication factor asks for a replica on every peer.
const Everywhere = -1

// Limits on what a stranger may store with a pin.
const (
	MaxNameBytes     = 1024
	MaxMetadataKeys  = 1024     // the Pinning Service API has at most 1,000
	MaxMetadataBytes = 16 << 10 // keys and values together
	MaxOrigins       = 20
)

// PinOptions are a user's wishes for a pin.
type PinOptions struct {
	// ReplicationFactorMin and Max bound the number of replicas: 0 takes the
	// cluster's default, Everywhere (-1, both) every peer, others count peers.
	ReplicationFactorMin int                   `json:"replication_factor_min"`
	ReplicationFactorMax int                   `json:"replication_factor_max"`
	Name                 string                `json:"name"`
	Mode                 PinMode               `json:"mode"`
	ShardSize            uint64                `json:"shard_size"`
	UserAllocations      []peer.ID             `json:"user_allocations"` // peers to prefer; a wish of one request, never stored
	ExpireAt             time.Time             `json:"expire_at"`        // zero: never
	Metadata             map[string]string     `json:"metadata"`
	PinUpdate            Cid                   `json:"pin_update"` // take options and replicas from this pin, at the moment of the request
	Origins              []multiaddr.Multiaddr `json:"origins"`    // who surely has the blocks; each ends in /p2p/<id>
}

// plainOptions are the fields of PinOptions without its methods.
type plainOptions PinOptions

// UnmarshalJSON reads options; origins are multiaddrs in text.
func (o *PinOptions) UnmarshalJSON(data []byte) error {
	aux := struct {
		*plainOptions
		Origins []string `json:"origins"`
	}{plainOptions: (*plainOptions)(o)}
	if err := json.Unmarshal(data, &aux); err != nil {
		return err
	}
	origins, err := ParseOrigins(aux.Origins)
	if err != nil {
		return err
	}
	o.Origins = origins
	return nil
}

// ParseOrigins reads multiaddrs that must each end in /p2p/<id>.
func ParseOrigins(texts []string) ([]multiaddr.Multiaddr, error) {
	var out []multiaddr.Multiaddr
	for _, text := range texts {
		addr, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			return nil, Errorf(CodeInvalid, "origin %q is not a multiaddr: %w", text, err)
		}
		if _, err := peer.AddrInfoFromP2pAddr(addr); err != nil {
			return nil, Errorf(CodeInvalid, "origin %q does not end in /p2p/<peer ID>", text)
		}
		out = append(out, addr)
	}
	return out, nil
}

// Validate checks what can be checked without knowing the cluster. All errors
// have code invalid and say what to do.
func (o PinOptions) Validate() error {
	if _, err := ParsePinMode(string(o.Mode)); err != nil {
		return err
	}
	if err := ValidateFactors(o.ReplicationFactorMin, o.ReplicationFactorMax); err != nil {
		return err
	}
	if len(o.Name) > MaxNameBytes {
		return Errorf(CodeInvalid, "the name has %d bytes; at most %d are kept", len(o.Name), MaxNameBytes)
	}
	if len(o.Metadata) > MaxMetadataKeys {
		return Errorf(CodeInvalid, "%d metadata keys; at most %d are kept", len(o.Metadata), MaxMetadataKeys)
	}
	size := 0
	for k, v := range o.Metadata {
		if k == "" {
			return Errorf(CodeInvalid, "a metadata key is empty")
		}
		size += len(k) + len(v)
	}
	if size > MaxMetadataBytes {
		return Errorf(CodeInvalid, "the metadata has %d bytes; at most %d are kept", size, MaxMetadataBytes)
	}
	if len(o.Origins) > MaxOrigins {
		return Errorf(CodeInvalid, "%d origins; at most %d are used", len(o.Origins), MaxOrigins)
	}
	return nil
}

// ValidateFactors checks a pair of replication factors; 0 stands for the
// cluster's default.
func ValidateFactors(minimum, maximum int) error {
	switch {
	case minimum < Everywhere || maximum < Everywhere:
		return Errorf(CodeInvalid, "replication factors are -1 (every peer), 0 (the default) or a number of peers; got min %d and max %d", minimum, maximum)
	case minimum == 0 || maximum == 0:
		return nil
	case (minimum == Everywhere) != (maximum == Everywhere):
		return Errorf(CodeInvalid, "replication factors min %d and max %d: -1 (every peer) goes for both or for none", minimum, maximum)
	case minimum > maximum:
		return Errorf(CodeInvalid, "replication factor min %d is larger than max %d", minimum, maximum)
	}
	return nil
}

// Pin is one entry of the pinset: what must be kept, and by whom.
type Pin struct {
	PinOptions
	Cid         Cid       `json:"cid"`
	Type        PinType   `json:"type"`
	Allocations []peer.ID `json:"allocations"` // the peers that hold a replica; empty: every peer
	MaxDepth    int       `json:"max_depth"`   // Mode in the incumbent's words, see PinMode.MaxDepth
	Reference   *Cid      `json:"reference"`   // always null; kept for the incumbent's clients
	Timestamp   time.Time `json:"timestamp"`   // when the pin was last asked for; whole seconds
	// Revision is the log index of the last change; 0: never stored.
	Revision uint64 `json:"revision,omitempty"`
}

// UnmarshalJSON reads a pin; without it the promoted method of PinOptions
// would hide the fields of Pin.
func (p *Pin) UnmarshalJSON(data []byte) error {
	var options PinOptions
	read := struct {
		*plainOptions
		Origins     []string  `json:"origins"`
		Cid         Cid       `json:"cid"`
		Type        PinType   `json:"type"`
		Allocations []peer.ID `json:"allocations"`
		MaxDepth    *int      `json:"max_depth"`
		Reference   *Cid      `json:"reference"`
		Timestamp   time.Time `json:"timestamp"`
		Revision    uint64    `json:"revision"`
	}{plainOptions: (*plainOptions)(&options)}
	if err := json.Unmarshal(data, &read); err != nil {
		return fmt.Errorf("read pin: %w", err)
	}
	var err error
	if options.Origins, err = ParseOrigins(read.Origins); err != nil {
		return fmt.Errorf("read pin: %w", err)
	}
	*p = Pin{PinOptions: options, Cid: read.Cid, Type: read.Type, Allocations: read.Allocations,
		Reference: read.Reference, Timestamp: read.Timestamp, Revision: read.Revision}
	if p.Type == "" {
		p.Type = TypeData
	}
	if p.Mode == "" {
		p.Mode = ModeRecursive
		if read.MaxDepth != nil && *read.MaxDepth == 0 {
			p.Mode = ModeDirect
		}
	}
	p.MaxDepth = p.Mode.MaxDepth()
	return nil
}

// IsEverywhere says that every peer holds a replica.
func (p Pin) IsEverywhere() bool { return p.ReplicationFactorMin == Everywhere }

// AllocatedTo says whether a peer holds a replica.
func (p Pin) AllocatedTo(id peer.ID) bool {
	return p.IsEverywhere() || slices.Contains(p.Allocations, id)
}

// Expired says whether the pin's time is over.
func (p Pin) Expired(now time.Time) bool {
	return !p.ExpireAt.IsZero() && !now.Before(p.ExpireAt)
}

// PinRequest asks the cluster to keep a CID. RequestID makes a repeat safe:
// the second of two requests with one id returns the result of the first.
type PinRequest struct {
	Cid     Cid
	Options PinOptions
	// Allocations, when set, are final (an add that already wrote there).
	Allocations []peer.ID
	RequestID   string
}

// UnpinRequest asks the cluster to let go of a CID.
type UnpinRequest struct {
	Cid       Cid
	RequestID string
}

// PinResult is the stored pin (of an unpin: the pin as it was) and the log
// index that a reader can wait for.
type PinResult struct {
	Pin   Pin
	Index uint64
}

// PinFilter selects pins of the pinset, in the order of their CIDs' bytes. A
// pin must meet every condition; the zero value selects all pins.
type PinFilter struct {
	Types         []PinType         `json:",omitempty"` // none or TypeAll: every type
	Peer          peer.ID           `json:",omitempty"` // "": every peer; else only those allocated to it
	Name          string            `json:",omitempty"` // "": any; else exactly this one
	NamePrefix    string            `json:",omitempty"` // "": any; else names that begin so, byte by byte
	Meta          map[string]string `json:",omitempty"` // each key with exactly this value
	CreatedAfter  time.Time         // zero: no bound; else only pins with a later Timestamp
	CreatedBefore time.Time         // zero: no bound; else only pins with an earlier Timestamp
	After         Cid               // undefined: from the start; else only what follows it
	Limit         int               // 0: no limit
}

// Selects says whether a pin meets the conditions; After and Limit are none.
func (f PinFilter) Selects(pin Pin) bool {
	for key, value := range f.Meta {
		if has, ok := pin.Metadata[key]; !ok || has != value {
			return false
		}
	}
	return f.SelectsType(pin.Type) &&
		(f.Peer == "" || pin.AllocatedTo(f.Peer)) &&
		(f.Name == "" || pin.Name == f.Name) &&
		strings.HasPrefix(pin.Name, f.NamePrefix) &&
		(f.CreatedAfter.IsZero() || pin.Timestamp.After(f.CreatedAfter)) &&
		(f.CreatedBefore.IsZero() || pin.Timestamp.Before(f.CreatedBefore))
}

// ParseTime reads a time for a filter: RFC 3339, or whole unix seconds. One
// outside of the years 1 to 9999 is invalid.
func ParseTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if seconds, number := strconv.ParseInt(text, 10, 64); number == nil {
		at, err = time.Unix(seconds, 0).UTC(), nil
	}
	if err != nil || at.IsZero() || at.Year() < 1 || at.Year() > 9999 {
		return time.Time{}, Errorf(CodeInvalid, "%q is not a time such as 2030-01-31T12:00:00Z, nor unix seconds", text)
	}
	return at, nil
}

// SelectsType says whether pins of a type can be selected.
func (f PinFilter) SelectsType(t PinType) bool {
	return len(f.Types) == 0 || slices.Contains(f.Types, t) || slices.Contains(f.Types, TypeAll)
}

// SelectsAll says that every pin meets the conditions.
func (f PinFilter) SelectsAll() bool {
	return (len(f.Types) == 0 || slices.Contains(f.Types, TypeAll)) && f.Peer == "" && f.Name == "" &&
		f.NamePrefix == "" && len(f.Meta) == 0 && f.CreatedAfter.IsZero() && f.CreatedBefore.IsZero()
}

// ReadPoint says what a read must show. The zero value: what the asked peer
// has, and what was written through it.
type ReadPoint struct {
	Consistent bool   // everything that was acknowledged, by any peer, before the read
	Index      uint64 // everything up to this log index, such as that of a write
}

// Change is one change of the pinset: at this index, this CID was pinned,
// changed or removed (read the pinset to see which).
type Change struct {
	Index uint64
	Cid   Cid
}

// PinChange is a Change with what stands in the pinset now, which may be newer
// than the change.
type PinChange struct {
	Index   uint64 `json:"index"`
	Cid     Cid    `json:"cid"`
	Pin     *Pin   `json:"pin"` // null: the CID is not pinned any more
	Removed bool   `json:"removed,omitempty"`
}

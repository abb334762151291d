package api

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// TrackerStatus is how far one peer got with one pin. Values are bits, so that
// a filter is an or of them; 0 as a filter selects everything.
type TrackerStatus uint32

// The statuses, by the names of the incumbent.
const (
	StatusClusterError TrackerStatus = 1 << iota // the peer did not answer
	StatusPinError
	StatusUnpinError
	StatusPinned
	StatusPinning
	StatusUnpinning
	StatusUnpinned
	StatusRemote // in the pinset, allocated to others
	StatusPinQueued
	StatusUnpinQueued
	StatusSharded
	StatusUnexpectedlyUnpinned // should be pinned, is not, and nothing is under way

	StatusUndefined TrackerStatus = 0
	StatusError                   = StatusClusterError | StatusPinError | StatusUnpinError
	StatusQueued                  = StatusPinQueued | StatusUnpinQueued
)

var statusNames = []struct {
	status TrackerStatus
	name   string
}{
	{StatusUndefined, "undefined"},
	{StatusClusterError, "cluster_error"},
	{StatusPinError, "pin_error"},
	{StatusUnpinError, "unpin_error"},
	{StatusError, "error"},
	{StatusPinned, "pinned"},
	{StatusPinning, "pinning"},
	{StatusUnpinning, "unpinning"},
	{StatusUnpinned, "unpinned"},
	{StatusRemote, "remote"},
	{StatusPinQueued, "pin_queued"},
	{StatusUnpinQueued, "unpin_queued"},
	{StatusQueued, "queued"},
	{StatusSharded, "sharded"},
	{StatusUnexpectedlyUnpinned, "unexpectedly_unpinned"},
}

// String returns the name of a status, or of an or of several, joined by commas.
func (s TrackerStatus) String() string {
	for _, row := range statusNames {
		if row.status == s {
			return row.name
		}
	}
	var names []string
	for _, row := range statusNames {
		if row.status != 0 && row.status&(row.status-1) == 0 && s&row.status != 0 {
			names = append(names, row.name)
		}
	}
	return strings.Join(names, ",")
}

// Match says whether a filter selects the status.
func (s TrackerStatus) Match(filter TrackerStatus) bool {
	return filter == StatusUndefined || s&filter != 0
}

// ParseTrackerStatus reads one name, or several joined by commas, as a filter;
// "" selects everything, an unknown name is invalid.
func ParseTrackerStatus(text string) (TrackerStatus, error) {
	var out TrackerStatus
	if text == "" {
		return out, nil
	}
next:
	for _, name := range strings.Split(text, ",") {
		for _, row := range statusNames {
			if row.name == strings.TrimSpace(name) && row.name != "undefined" {
				out |= row.status
				continue next
			}
		}
		return 0, Errorf(CodeInvalid, "unknown status %q; the statuses are %s", name, StatusNames())
	}
	return out, nil
}

// StatusNames lists the names that a filter may have.
func StatusNames() string {
	var names []string
	for _, row := range statusNames {
		if row.status != StatusUndefined {
			names = append(names, row.name)
		}
	}
	return strings.Join(names, ", ")
}

// MarshalJSON writes the name.
func (s TrackerStatus) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads the name.
func (s *TrackerStatus) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	if text == "undefined" {
		*s = StatusUndefined
		return nil
	}
	parsed, err := ParseTrackerStatus(text)
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// PinInfoShort is one peer's status of one pin, as it stands in a peer map.
type PinInfoShort struct {
	PeerName      string                `json:"peername"`
	IPFS          peer.ID               `json:"ipfs_peer_id,omitempty"`
	IPFSAddresses []multiaddr.Multiaddr `json:"ipfs_peer_addresses,omitempty"`
	Status        TrackerStatus         `json:"status"`
	Timestamp     time.Time             `json:"timestamp"` // when the status was reached
	Error         string                `json:"error"`
	AttemptCount  int                   `json:"attempt_count"`
	PriorityPin   bool                  `json:"priority_pin"`
	// What the incumbent does not tell: what kind of error, how far, and when again.
	ErrorCode   Code       `json:"error_code,omitempty"`
	Blocks      uint64     `json:"blocks,omitempty"`        // blocks in the local store so far
	Bytes       uint64     `json:"bytes,omitempty"`         // their bytes
	NextAttempt *time.Time `json:"next_attempt,omitempty"`  // when a failed pin is tried again
	LastBlockAt *time.Time `json:"last_block_at,omitempty"` // when the last block came
}

// UnmarshalJSON reads the status; addresses are multiaddrs in text.
func (p *PinInfoShort) UnmarshalJSON(data []byte) error {
	type plain PinInfoShort
	aux := struct {
		*plain
		IPFSAddresses []string `json:"ipfs_peer_addresses"`
	}{plain: (*plain)(p)}
	if err := json.Unmarshal(data, &aux); err != nil {
		return err
	}
	addrs, err := parseAddrs(aux.IPFSAddresses)
	p.IPFSAddresses = addrs
	return err
}

// PinInfo is one peer's status of one pin.
type PinInfo struct {
	Cid  Cid
	Name string
	Peer peer.ID `json:",omitempty"`
	PinInfoShort
}

// GlobalPinInfo is the status of one pin on every peer concerned. Keys of
// PeerMap are cluster peer IDs in text.
type GlobalPinInfo struct {
	Cid         Cid                     `json:"cid"`
	Name        string                  `json:"name"`
	Allocations []peer.ID               `json:"allocations"`
	Origins     []multiaddr.Multiaddr   `json:"origins"`
	Created     time.Time               `json:"created"`
	Metadata    map[string]string       `json:"metadata"`
	PeerMap     map[string]PinInfoShort `json:"peer_map"`
}

// UnmarshalJSON reads the status; origins are multiaddrs in text.
func (g *GlobalPinInfo) UnmarshalJSON(data []byte) error {
	type plain GlobalPinInfo
	aux := struct {
		*plain
		Origins []string `json:"origins"`
	}{plain: (*plain)(g)}
	if err := json.Unmarshal(data, &aux); err != nil {
		return err
	}
	addrs, err := parseAddrs(aux.Origins)
	g.Origins = addrs
	return err
}

// StatusQuery selects statuses. Results come in the order of their CIDs' bytes.
type StatusQuery struct {
	Filter TrackerStatus // StatusUndefined: all
	Cids   []Cid         // none: all
	Local  bool          // only the asked peer's own
	After  Cid           // undefined: from the start
	Limit  int           // 0: no limit
	// Pins selects by what stands in the pinset, and leaves out what does not.
	// Its After and Limit are not looked at.
	Pins PinFilter
}

// GlobalInfo is what the pinset knows of a CID, without asking anyone: used to
// begin a GlobalPinInfo.
func (p Pin) GlobalInfo() GlobalPinInfo {
	g := GlobalPinInfo{Cid: p.Cid, Name: p.Name, Allocations: p.Allocations, Origins: p.Origins,
		Created: p.Timestamp, Metadata: p.Metadata, PeerMap: map[string]PinInfoShort{}}
	if g.Allocations == nil {
		g.Allocations = []peer.ID{}
	}
	if g.Origins == nil {
		g.Origins = []multiaddr.Multiaddr{}
	}
	return g
}

// parseAddrs keeps an empty list apart from an absent one, so that what was
// read is written as it was.
func parseAddrs(texts []string) ([]multiaddr.Multiaddr, error) {
	if texts == nil {
		return nil, nil
	}
	out := make([]multiaddr.Multiaddr, 0, len(texts))
	for _, text := range texts {
		addr, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			return nil, Errorf(CodeInvalid, "%q is not a multiaddr: %w", text, err)
		}
		out = append(out, addr)
	}
	return out, nil
}

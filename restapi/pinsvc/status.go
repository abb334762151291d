package pinsvc

import (
	"hash/fnv"
	"slices"
	"time"
	"unicode/utf8"

	"holdfast/api"

	"github.com/multiformats/go-multiaddr"
)

const (
	maxName      = 255 // characters
	maxDelegates = 20
)

// The statuses of the specification.
const (
	queued  = "queued"
	pinning = "pinning"
	pinned  = "pinned"
	failed  = "failed"
)

// pinBody is the specification's Pin.
type pinBody struct {
	Cid     api.Cid           `json:"cid"`
	Name    string            `json:"name,omitempty"`
	Origins []string          `json:"origins,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
}

// options checks a body and turns it into a wish; replication is the
// cluster's default.
func (b pinBody) options() (api.PinOptions, error) {
	if !b.Cid.Defined() {
		return api.PinOptions{}, api.Errorf(api.CodeInvalid, "the cid is missing")
	}
	if utf8.RuneCountInString(b.Name) > maxName {
		return api.PinOptions{}, api.Errorf(api.CodeInvalid, "the name is longer than %d characters", maxName)
	}
	origins, err := api.ParseOrigins(b.Origins)
	if err != nil {
		return api.PinOptions{}, err
	}
	o := api.PinOptions{Name: b.Name, Mode: api.ModeRecursive, Metadata: b.Meta, Origins: origins}
	return o, o.Validate()
}

// pinStatus is the specification's PinStatus.
type pinStatus struct {
	RequestID string            `json:"requestid"`
	Status    string            `json:"status"`
	Created   time.Time         `json:"created"`
	Pin       pinBody           `json:"pin"`
	Delegates []string          `json:"delegates"`
	Info      map[string]string `json:"info,omitempty"`
}

func newStatus(pin api.Pin, info api.GlobalPinInfo) pinStatus {
	s := pinStatus{RequestID: pin.Cid.String(), Status: serviceStatus(pin, info), Created: created(pin),
		Pin: pinBody{Cid: pin.Cid, Name: pin.Name, Meta: pin.Metadata}, Delegates: delegates(info)}
	for _, origin := range pin.Origins {
		s.Pin.Origins = append(s.Pin.Origins, origin.String())
	}
	if s.Status != pinned {
		for _, p := range info.PeerMap {
			if p.Error != "" && s.Info["status_details"] < p.Error { // one of them, always the same
				s.Info = map[string]string{"status_details": p.Error}
			}
		}
	}
	return s
}

// created is when the pin was asked for. Pins keep whole seconds; clients
// page with before=<created of the last result>, which loses pins of one and
// the same time. So the fraction of the second is made of the CID.
func created(pin api.Pin) time.Time {
	at := pin.Timestamp.UTC().Truncate(time.Second)
	sum := fnv.New64a()
	_, _ = sum.Write(pin.Cid.Bytes()) // cannot fail
	return at.Add(time.Duration(sum.Sum64() % uint64(time.Second)))
}

// serviceStatus says in one word how far the peers that shall hold the pin
// got. The word is failed only when every one of them has failed: while one is
// left, the cluster goes on trying.
func serviceStatus(pin api.Pin, info api.GlobalPinInfo) string {
	var have, working, waiting, broken, silent int
	for _, p := range info.PeerMap {
		switch p.Status {
		case api.StatusRemote:
		case api.StatusPinned:
			have++
		case api.StatusPinning:
			working++
		case api.StatusPinError:
			broken++
		case api.StatusClusterError:
			silent++
		default: // queued, or not known to the peer yet
			waiting++
		}
	}
	need := pin.ReplicationFactorMin
	if n := len(pin.Allocations); n > 0 {
		need = min(need, n) // the cluster has no room for more now
	}
	if need <= 0 { // everywhere: all who answer
		need = max(1, have+working+waiting+broken)
	}
	switch {
	case have >= need:
		return pinned
	case working > 0 || have > 0:
		return pinning
	case waiting > 0 || silent > 0 || broken == 0:
		return queued
	}
	return failed
}

// delegates are addresses of the IPFS nodes that shall hold the pin, each
// node's first before any node's second: a client connects to them to hand
// over the blocks.
func delegates(info api.GlobalPinInfo) []string {
	var perPeer [][]string
	longest := 0
	for _, p := range info.PeerMap {
		if p.Status == api.StatusRemote {
			continue
		}
		var addrs []string
		for _, addr := range p.IPFSAddresses {
			if _, err := addr.ValueForProtocol(multiaddr.P_P2P); err != nil && p.IPFS != "" {
				addr = multiaddr.Join(addr, multiaddr.StringCast("/p2p/"+p.IPFS.String()))
			}
			addrs = append(addrs, addr.String())
		}
		perPeer = append(perPeer, addrs)
		longest = max(longest, len(addrs))
	}
	slices.SortFunc(perPeer, slices.Compare)
	out := []string{}
	for i := range longest {
		for _, addrs := range perPeer {
			if i < len(addrs) && len(out) < maxDelegates && !slices.Contains(out, addrs[i]) {
				out = append(out, addrs[i])
			}
		}
	}
	return out
}

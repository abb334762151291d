package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// Routing says how content is found beyond connected peers.
type Routing string

// The kinds of routing.
const (
	RoutingNone Routing = "none" // connected peers only
	RoutingAuto Routing = "auto" // DHT, client or server as reachability allows
	RoutingDHT  Routing = "dht"  // DHT server
)

// BlockStore says what a new repository keeps its blocks in; see DESIGN.md.
type BlockStore string

// The block stores.
const (
	BlocksPebble BlockStore = "pebble"
	BlocksFlatfs BlockStore = "flatfs"
)

// Config says how the node runs. The zero value but for Dir is a node that
// listens nowhere and speaks to configured peers only.
type Config struct {
	// Dir is the repository. An existing one of Kubo's is used in place: its
	// config file is read, never rewritten, and overruled by what is set here.
	Dir string
	// SwarmListen are the multiaddrs of the IPFS swarm; none: listen nowhere.
	SwarmListen []string
	// Announce replaces the addresses told to others; none: those listened on.
	Announce []string
	// Public joins the public IPFS network: DHT, bootstrap peers, relays, port
	// mapping. Otherwise, unless Private, the swarm connects with no others than
	// the nodes given to Peer, those of Admit, and Bootstrap: whoever dials.
	Public bool
	// Admit are further nodes that a node which is not Public connects with.
	Admit []peer.ID
	// Private admits only peers with SwarmKey (a swarm.key file's content;
	// empty: the repository already holds one). It excludes Public.
	Private  bool
	SwarmKey []byte
	// Bootstrap are multiaddrs to dial at start and when alone. None and
	// Public: those of the public network.
	Bootstrap []string
	// Routing defaults to none, or to auto when Public.
	Routing Routing
	// BlockStore of a new repository; "" is pebble.
	BlockStore BlockStore
	// StorageMax is how many bytes the repository may take; 0: what the disk has.
	StorageMax uint64
	// Reserve is how many bytes of the disk stay free: block writes are refused
	// below it. 0: 1 % of the disk, at least 160 MiB and at most 2 GiB. Too small
	// a reserve ends the process when the disk is full (Pebble cannot go on).
	Reserve uint64
	// MaxConnections bounds the connections of the swarm that take a file
	// descriptor each; 0: what Kubo makes of the process's limit.
	MaxConnections int
	// GatewayFetch lets the gateway ask connected peers for what is not local.
	GatewayFetch bool
	// GCPeriod is how often the repository's size is looked at (0: hourly;
	// negative: never); it is collected above GCWatermark percent (0: 90) of StorageMax, or of what
	// the disk has for it where there is none.
	GCPeriod    time.Duration
	GCWatermark int
	// StallTimeout ends a fetch session to which no block comes; 0: 20 s.
	StallTimeout time.Duration
	// StallLimit is after how many sessions without any block a fetch gives up; 0: 3.
	StallLimit int
	// LeaseLinger is how long an ended lease still holds off garbage collection,
	// so that the pin of what was added can arrive here; 0: 10 s.
	LeaseLinger time.Duration
	// ShutdownTimeout bounds the closing of the node; 0: 20 s.
	ShutdownTimeout time.Duration
	// Wanted, when set, calls its argument with everything this peer is asked
	// to keep, pinned yet or not, until the argument returns false. Garbage
	// collection keeps what is local of it.
	Wanted func(keep func(api.Pin) bool) error
}

// Validate reports every problem of the config at once.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("Dir is empty; it is the folder of the IPFS repository"))
	}
	for _, group := range []struct {
		name  string
		addrs []string
	}{{"SwarmListen", c.SwarmListen}, {"Announce", c.Announce}, {"Bootstrap", c.Bootstrap}} {
		for _, a := range group.addrs {
			if _, err := multiaddr.NewMultiaddr(a); err != nil {
				errs = append(errs, fmt.Errorf("%s: %q is not a multiaddr: %w", group.name, a, err))
			}
		}
	}
	if c.Private && c.Public {
		errs = append(errs, errors.New("Private and Public exclude one another"))
	}
	switch c.Routing {
	case "", RoutingNone:
	case RoutingAuto, RoutingDHT:
		if !c.Public && !c.Private {
			errs = append(errs, fmt.Errorf("routing %q needs Public, or Private with Bootstrap peers", c.Routing))
		}
	default:
		errs = append(errs, fmt.Errorf("unknown routing %q; it is none, auto or dht", c.Routing))
	}
	switch c.BlockStore {
	case "", BlocksPebble, BlocksFlatfs:
	default:
		errs = append(errs, fmt.Errorf("unknown block store %q; it is pebble or flatfs", c.BlockStore))
	}
	if c.GCWatermark < 0 || c.GCWatermark > 100 {
		errs = append(errs, fmt.Errorf("GCWatermark is a percentage; got %d", c.GCWatermark))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	setDefault(&c.BlockStore, BlocksPebble)
	setDefault(&c.GCPeriod, time.Hour)
	setDefault(&c.GCWatermark, 90)
	setDefault(&c.StallTimeout, 20*time.Second)
	setDefault(&c.StallLimit, 3)
	setDefault(&c.LeaseLinger, 10*time.Second)
	setDefault(&c.ShutdownTimeout, 20*time.Second)
	if c.Public {
		setDefault(&c.Routing, RoutingAuto)
	}
	setDefault(&c.Routing, RoutingNone)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

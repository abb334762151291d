package node

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/boxo/autoconf"
	kubo "github.com/ipfs/kubo/config"
)

// unlimited stands for "no StorageMax" in Kubo's config, which knows no zero.
const unlimited = uint64(1) << 60

// overlay sets in a Kubo config all that decides whom the node speaks to and
// what it keeps, so that neither Kubo's defaults (which change, and call home)
// nor an existing file do.
func (c Config) overlay(k *kubo.Config) {
	mend(k)
	k.AutoConf.Enabled = kubo.False
	k.AutoTLS.Enabled = kubo.False
	k.Discovery.MDNS.Enabled = false // two nodes that dial each other at once can wedge bitswap
	k.Plugins = kubo.Plugins{}
	k.API.HTTPHeaders = nil // no origin is allowed, whatever the file says
	k.API.Authorizations = nil
	k.Addresses.API, k.Addresses.Gateway = nil, nil // the handlers are served by others
	k.Addresses.Swarm = append([]string{}, c.SwarmListen...)
	k.Addresses.Announce = append([]string{}, c.Announce...)
	k.Addresses.AppendAnnounce, k.Addresses.NoAnnounce = nil, nil
	k.Bootstrap = append([]string{}, c.Bootstrap...)
	k.Peering.Peers = nil // Node.Peer decides
	k.Routing = kubo.Routing{Type: kubo.NewOptionalString(string(c.Routing))}
	k.Ipns.DelegatedPublishers = nil
	k.DNS = kubo.DNS{Resolvers: map[string]string{"eth.": ""}} // the system's; "eth." would be DoH
	k.HTTPRetrieval.Enabled = kubo.False
	k.Gateway.NoFetch = !c.GatewayFetch
	k.Gateway.ExposeRoutingAPI = kubo.False
	k.Gateway.DiagnosticServiceURL = kubo.NewOptionalString("")
	k.Swarm.DisableBandwidthMetrics = true
	k.Swarm.RelayService.Enabled = kubo.False
	if c.MaxConnections > 0 {
		k.Swarm.ResourceMgr.Enabled = kubo.True
		k.Swarm.ResourceMgr.MaxFileDescriptors = kubo.NewOptionalInteger(int64(c.MaxConnections))
	}
	k.Internal.CGNATCheck = kubo.False
	k.Internal.DeadListenerCheck = kubo.False
	k.Datastore.StorageMax = fmt.Sprintf("%dB", unlimited)
	if c.StorageMax > 0 {
		k.Datastore.StorageMax = fmt.Sprintf("%dB", c.StorageMax)
	}
	// What is on the disk is asked of the disk: a memory of what was there would
	// hide blocks that were found damaged, and keep them from being written anew.
	k.Datastore.BlockKeyCacheSize = *kubo.NewOptionalInteger(0)
	k.Datastore.BloomFilterSize = 0
	k.Datastore.WriteThrough = kubo.True // to ask first whether a block is there costs more than most blocks
	k.Datastore.StorageGCWatermark = int64(c.GCWatermark)
	k.Experimental.FilestoreEnabled, k.Experimental.UrlstoreEnabled = false, false
	k.Version.SwarmCheckEnabled = kubo.False
	if c.Public {
		c.overlayPublic(k)
		return
	}
	if c.Private {
		k.Swarm.Transports.Network.Websocket = kubo.False // cannot share a port in a private network
	}
	k.Provide.Enabled = kubo.False
	k.Gateway.NoDNSLink = true
	k.AutoNAT.ServiceMode = kubo.AutoNATServiceDisabled
	k.Swarm.DisableNatPortMap = true
	k.Swarm.EnableHolePunching = kubo.False
	k.Swarm.RelayClient.Enabled = kubo.False
	k.Swarm.Transports.Network.Relay = kubo.False
	k.Internal.Libp2pForceReachability = kubo.NewOptionalString("private") // no probes by others
	// Every connected peer is one of ours: ask them all.
	k.Internal.Bitswap = &kubo.InternalBitswap{
		BroadcastControl: &kubo.BitswapBroadcastControl{Enable: kubo.False},
	}
}

func (c Config) overlayPublic(k *kubo.Config) {
	if len(k.Bootstrap) == 0 {
		k.Bootstrap = append([]string{}, autoconf.FallbackBootstrapPeers...)
	}
	// Pins are announced when they are recorded; their inner blocks are found
	// through the session that found the root.
	k.Provide.Enabled = kubo.True
	k.Provide.Strategy = kubo.NewOptionalString("roots")
	k.Swarm.RelayClient.Enabled = kubo.True
	// What a private network turned off in the file of a new repository.
	k.Gateway.NoDNSLink = false
	k.AutoNAT.ServiceMode = kubo.AutoNATServiceUnset
	k.Swarm.DisableNatPortMap = false
	k.Swarm.EnableHolePunching = kubo.Default
	k.Internal.Libp2pForceReachability = nil
	k.Internal.Bitswap = nil
}

// newKuboConfig is the config file of a new repository.
func (c Config) newKuboConfig(identity kubo.Identity) (*kubo.Config, error) {
	k, err := kubo.InitWithIdentity(identity)
	if err != nil {
		return nil, fmt.Errorf("make Kubo config: %w", err)
	}
	k.Datastore.GCPeriod = time.Hour.String()
	k.Datastore.Spec = datastoreSpec(c.BlockStore)
	c.overlay(k)
	return k, nil
}

// datastoreSpec is Kubo's description of where things are kept. The metadata
// is in Pebble always. Depth and kind of the block store are fixed for good.
func datastoreSpec(blocks BlockStore) map[string]any {
	meta := map[string]any{
		"type":               "pebbleds",
		"path":               "pebbleds",
		"formatMajorVersion": int(pebble.FormatNewest),
	}
	if blocks == BlocksPebble {
		return meta
	}
	meta["mountpoint"] = "/"
	return map[string]any{
		"type": "mount",
		"mounts": []any{
			map[string]any{
				"mountpoint": "/blocks",
				"type":       "flatfs",
				"path":       "blocks",
				"sync":       true, // without it a pinned block may be lost in a power failure
				"shardFunc":  "/repo/flatfs/shard/v1/next-to-last/3",
			},
			meta,
		},
	}
}

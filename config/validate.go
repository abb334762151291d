package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"holdfast/api"
)

// Validate returns every problem of the settings, by name.
func (c Config) Validate() []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for key, list := range map[string][]string{"cluster.listen": c.ClusterListen, "cluster.announce": c.ClusterAnnounce, "cluster.peer_addresses": c.PeerAddresses,
		"restapi.listen": c.RESTListen, "ipfsproxy.listen": c.ProxyListen, "pinsvc.listen": c.PinsvcListen,
		"ipfs.swarm": c.IPFSSwarm, "ipfs.announce": c.IPFSAnnounce, "ipfs.gateway_listen": c.IPFSGatewayListen} {
		for _, text := range list {
			if _, err := multiaddr.NewMultiaddr(text); err != nil {
				problem("%s: %q is not a multiaddr such as /ip4/127.0.0.1/tcp/9094: %w", key, text, err)
			}
		}
	}
	for _, text := range c.IPFSAdmit {
		if _, err := peer.Decode(text); err != nil {
			problem("ipfs.admit: %q is not the peer ID of an IPFS node, such as 12D3KooW… (no address): %w", text, err)
		}
	}
	if len(c.ClusterListen) == 0 {
		problem("cluster.listen: a peer needs at least one address for its cluster")
	}
	if err := api.ValidateFactors(c.ReplicationMin, c.ReplicationMax); err != nil || c.ReplicationMin == 0 || c.ReplicationMax == 0 {
		problem("replication.min %d and replication.max %d: give both as -1, or as numbers with min at most max", c.ReplicationMin, c.ReplicationMax)
	}
	if c.Voters < 1 || c.Voters%2 == 0 || c.Voters > 9 {
		problem("cluster.voters: %d; give an odd number from 1 to 9", c.Voters)
	}
	if c.ConcurrentPins < 0 {
		problem("pins.concurrent: %d is negative", c.ConcurrentPins)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		problem("http.tls_cert and http.tls_key: give both or none")
	}
	if c.UploadPause < time.Second {
		problem("http.upload_pause: %s; give at least 1s", c.UploadPause)
	}
	if c.BelowMinGrace < 0 || c.BelowMaxGrace < c.BelowMinGrace {
		problem("repair.below_max_grace %s must be at least repair.below_min_grace %s, and neither negative", c.BelowMaxGrace, c.BelowMinGrace)
	}
	if c.RepairRate < 1 {
		problem("repair.pins_per_second: %d; give at least 1", c.RepairRate)
	}
	if c.BackupInterval < time.Minute {
		problem("backup.interval: %s; give at least 1m", c.BackupInterval)
	}
	if c.BackupKeep < 1 {
		problem("backup.keep: %d; keep at least one", c.BackupKeep)
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		problem("log.level: %q; it is debug, info, warn or error", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		problem("log.format: %q; it is text or json", c.LogFormat)
	}
	if slices.ContainsFunc(slices.Collect(maps.Keys(c.Users)), func(user string) bool { return user == "" || c.Users[user] == "" }) {
		problem("http.users: user names and passwords must not be empty")
	}
	if len(c.Users) == 0 && !c.Insecure {
		for _, l := range c.httpListeners() {
			if l.key == "ipfs.gateway_listen" && c.GatewayPublic {
				continue
			}
			for _, text := range l.addrs {
				if !onLoopback(text) {
					problem("%s: %s is reachable from other machines and asks for no credentials; set http.users, or %s if that is really wanted", l.key, text, l.unless)
				}
			}
		}
	}
	return problems
}

type listener struct {
	key    string
	addrs  []string
	unless string // the settings that allow it without credentials
}

func (c Config) httpListeners() []listener {
	return []listener{
		{"restapi.listen", c.RESTListen, "http.insecure"},
		{"ipfsproxy.listen", c.ProxyListen, "http.insecure"},
		{"pinsvc.listen", c.PinsvcListen, "http.insecure"},
		{"ipfs.gateway_listen", c.IPFSGatewayListen, "ipfs.gateway_public"},
	}
}

// Warnings are what is allowed and yet worth a word at every start.
func (c Config) Warnings() []string {
	var out []string
	for _, l := range c.httpListeners() {
		for _, text := range l.addrs {
			switch {
			case onLoopback(text):
			case len(c.Users) == 0:
				out = append(out, fmt.Sprintf("%s: whoever reaches %s may use it: there are no credentials", l.key, text))
			case c.TLSCert == "":
				out = append(out, fmt.Sprintf("%s: passwords cross the network in plain text to %s; set http.tls_cert and http.tls_key, or put a reverse proxy with TLS before it", l.key, text))
			}
		}
	}
	return out
}

// onLoopback says whether only this machine can reach an address. What cannot
// be parsed is reported elsewhere.
func onLoopback(text string) bool {
	addr, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		return true
	}
	if _, err := addr.ValueForProtocol(multiaddr.P_UNIX); err == nil {
		return true
	}
	ip, err := manet.ToIP(addr)
	return err == nil && net.IP.IsLoopback(ip)
}

package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	kubo "github.com/ipfs/kubo/config"
	serialize "github.com/ipfs/kubo/config/serialize"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Files of a repository.
const (
	specFile   = "datastore_spec" // what the datastore was made as
	mendedFile = "config.mended"  // the config with that datastore; holds the key too
)

// mendedConfig is the path of a config to open the repository with instead of
// its own, whose Datastore.Spec is not what the datastore was made as: somebody
// applied a profile, or edited it. "" when its own will do, or nothing helps.
// The file of the repository is never rewritten.
func (c Config) mendedConfig() (string, error) {
	path := filepath.Join(c.Dir, mendedFile)
	k, err := serialize.Load(filepath.Join(c.Dir, kubo.DefaultConfigFile))
	if err != nil {
		return "", nil // opening it says why
	}
	made, err := os.ReadFile(filepath.Join(c.Dir, specFile))
	if err != nil || sameSpec(k.Datastore.Spec, made) && k.Datastore.Type == "" && k.Datastore.Path == "" {
		return "", nil
	}
	var spec map[string]any
	if err := json.Unmarshal(made, &spec); err != nil {
		return "", nil
	}
	completeSpec(spec)
	if !sameSpec(spec, made) {
		return "", nil
	}
	k.Datastore.Spec, k.Datastore.Type, k.Datastore.Path = spec, "", ""
	if err := serialize.WriteConfigFile(path, k); err != nil {
		return "", fmt.Errorf("write the config with the datastore that is there: %w", err)
	}
	return path, nil
}

// sameSpec says whether a spec describes the datastore that was made.
func sameSpec(spec map[string]any, made []byte) bool {
	if spec == nil {
		return false
	}
	d, err := fsrepo.AnyDatastoreConfig(spec)
	return err == nil && bytes.Equal(d.DiskSpec().Bytes(), bytes.TrimSpace(made))
}

// completeSpec adds what a spec on the disk does not tell, as it does not
// decide where things are.
func completeSpec(spec map[string]any) {
	switch spec["type"] {
	case "flatfs":
		spec["sync"] = true
	case "levelds":
		spec["compression"] = "none"
	case "mount":
		mounts, _ := spec["mounts"].([]any)
		for _, mount := range mounts {
			if inner, ok := mount.(map[string]any); ok {
				completeSpec(inner)
			}
		}
	}
}

// mend takes out of a config what would keep the node from starting, or open
// it, and is set by hand or by a profile only.
func mend(k *kubo.Config) {
	k.Experimental.Libp2pStreamMounting, k.Experimental.P2pHttpProxy = false, false
	k.Swarm.Transports = kubo.Transports{} // those that Addresses.Swarm needs
	usable := k.Swarm.AddrFilters[:0:0]
	for _, filter := range k.Swarm.AddrFilters {
		if parts := strings.Split(filter, "/"); len(parts) == 5 && parts[3] == "ipcidr" {
			if _, _, err := net.ParseCIDR(parts[2] + "/" + parts[4]); err == nil {
				usable = append(usable, filter)
			}
		}
	}
	k.Swarm.AddrFilters = usable
	if d, err := time.ParseDuration(k.Ipns.RepublishPeriod); err != nil || d < time.Minute || d > 24*time.Hour {
		k.Ipns.RepublishPeriod = ""
	}
	if _, err := time.ParseDuration(k.Ipns.RecordLifetime); err != nil {
		k.Ipns.RecordLifetime = ""
	}
}

// letIn exempts a peer of the cluster from the address filters of the
// repository's config: the profile "server" filters all private networks.
func letIn(filters *multiaddr.Filters, info peer.AddrInfo) {
	if filters == nil {
		return
	}
	for _, addr := range info.Addrs {
		ip, err := manet.ToIP(addr)
		if err != nil || !filters.AddrBlocked(addr) {
			continue
		}
		bits := 8 * net.IPv6len
		if four := ip.To4(); four != nil {
			ip, bits = four, 8*net.IPv4len
		}
		filters.AddFilter(net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}, multiaddr.ActionAccept)
	}
}

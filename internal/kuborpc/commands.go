package kuborpc

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// By says who answers a command.
type By int

// Who answers. The zero value is nobody: what is not in the table, or was
// forgotten there, is refused.
const (
	Refused By = iota // nobody, and Why says what to do instead
	Cluster           // the cluster; never Kubo's own implementation
	Node              // Kubo
	local             // Kubo's command line alone: there is no such command here
)

// command is a line of the table.
type command struct {
	by    By
	why   string
	group bool // it has subcommands only; Kubo answers it with nothing
	locks bool // it takes Kubo's pin lock
	// form judges a command of which only some forms are for whom by says.
	form func(Call) (By, string)
}

// Names of all commands of the table.
func Names() []string { return slices.Sorted(maps.Keys(commands)) }

// Reasons, each with what to do instead.
const (
	noConfig    = "the peer sets its node's config; change service.json, see 'cluster-service config show' for the settings"
	noSwarm     = "the cluster decides whom its nodes stay connected with; 'ipfs swarm connect' connects for now"
	noP2P       = "a tunnel would let any node of the swarm reach this machine's ports; use a reverse proxy or a VPN"
	noUpdate    = "the node is part of this program; update the program instead"
	noDebug     = "it shows what is in this process's memory, keys and passwords included"
	noLog       = "the log is the peer's; set log.level and read the log of cluster-service"
	noClearing  = "it would forget which pins are still to be announced"
	noDatastore = "the repository is open in this peer; stop the peer and use 'ipfs diag datastore' there"
)

var (
	passed   = command{by: Node}
	writing  = command{by: Node, locks: true}
	group    = command{by: Node, group: true}
	answered = command{by: Cluster}
	hidden   = command{by: local}
	nowhere  = command{by: local, group: true}
)

func refused(why string) command { return command{by: Refused, why: why} }

func some(form func(Call) (By, string)) command { return command{by: Node, form: form} }

// commands is Kubo's whole command tree. A test of node compares it with the
// tree itself, so a new version of Kubo must be looked at before it is used.
var commands = map[string]command{
	// What is kept, and where, is the cluster's.
	"add":        answered,
	"pin":        group,
	"pin/add":    answered,
	"pin/ls":     answered,
	"pin/rm":     answered,
	"pin/update": answered,
	"repo/gc":    answered,
	"repo/stat":  answered,
	"block/put":  {by: Node, locks: true, form: unlessPinned},
	"dag/put":    {by: Node, locks: true, form: unlessPinned},
	"dag/import": {by: Node, locks: true, form: unlessRootsPinned},

	// Content.
	"block":                    group,
	"block/get":                passed,
	"block/rm":                 writing,
	"block/stat":               passed,
	"cat":                      passed,
	"dag":                      group,
	"dag/export":               passed,
	"dag/get":                  passed,
	"dag/resolve":              passed,
	"dag/stat":                 passed,
	"files":                    group,
	"files/chcid":              writing,
	"files/chmod":              writing,
	"files/chroot":             refused("it replaces the whole tree of files under the running node; use 'ipfs files cp' and 'ipfs files rm'"),
	"files/cp":                 writing,
	"files/flush":              writing,
	"files/ls":                 passed,
	"files/mkdir":              writing,
	"files/mv":                 writing,
	"files/read":               passed,
	"files/rm":                 writing,
	"files/stat":               passed,
	"files/touch":              writing,
	"files/write":              writing,
	"get":                      passed,
	"ls":                       passed,
	"object":                   group,
	"object/data":              passed,
	"object/diff":              passed,
	"object/get":               passed,
	"object/links":             passed,
	"object/new":               passed,
	"object/patch":             group,
	"object/patch/add-link":    writing,
	"object/patch/append-data": passed,
	"object/patch/rm-link":     writing,
	"object/patch/set-data":    passed,
	"object/put":               passed,
	"object/stat":              passed,
	"refs":                     passed,
	"refs/local":               passed,
	"resolve":                  passed,

	// Text.
	"cid":                 group,
	"cid/base32":          passed,
	"cid/bases":           passed,
	"cid/codecs":          passed,
	"cid/format":          passed,
	"cid/hashes":          passed,
	"cid/inspect":         passed,
	"multibase":           group,
	"multibase/decode":    passed,
	"multibase/encode":    passed,
	"multibase/list":      passed,
	"multibase/transcode": passed,

	// Names, and the keys that sign them. None leaves the node.
	"key":                group,
	"key/export":         refused("a key does not leave its node; stop the peer and use 'ipfs key export' on its repository"),
	"key/gen":            passed,
	"key/import":         passed,
	"key/list":           passed,
	"key/ls":             passed,
	"key/rename":         passed,
	"key/rm":             passed,
	"key/rotate":         refused("the cluster knows this node by its key"),
	"key/sign":           passed,
	"key/verify":         passed,
	"name":               group,
	"name/get":           passed,
	"name/inspect":       passed,
	"name/publish":       passed,
	"name/pubsub":        group,
	"name/pubsub/cancel": passed,
	"name/pubsub/state":  passed,
	"name/pubsub/subs":   passed,
	"name/put":           passed,
	"name/resolve":       passed,

	// Pinning services that the user names: requests go to them alone.
	"pin/remote":             group,
	"pin/remote/add":         passed,
	"pin/remote/ls":          passed,
	"pin/remote/rm":          passed,
	"pin/remote/service":     group,
	"pin/remote/service/add": passed,
	"pin/remote/service/ls":  passed,
	"pin/remote/service/rm":  passed,
	"pin/verify":             passed,

	// The network.
	"bitswap":             group,
	"bitswap/ledger":      passed,
	"bitswap/reprovide":   passed,
	"bitswap/stat":        passed,
	"bitswap/wantlist":    passed,
	"bootstrap":           passed,
	"bootstrap/add":       refused(noConfig + "; 'ipfs swarm connect' connects for now"),
	"bootstrap/list":      passed,
	"bootstrap/rm":        refused(noConfig),
	"bootstrap/rm/all":    refused(noConfig),
	"dht":                 group,
	"dht/findpeer":        passed,
	"dht/findprovs":       passed,
	"dht/get":             passed,
	"dht/provide":         passed,
	"dht/put":             passed,
	"dht/query":           passed,
	"p2p":                 group,
	"p2p/close":           refused(noP2P),
	"p2p/forward":         refused(noP2P),
	"p2p/listen":          refused(noP2P),
	"p2p/ls":              refused(noP2P),
	"p2p/stream":          group,
	"p2p/stream/close":    refused(noP2P),
	"p2p/stream/ls":       refused(noP2P),
	"ping":                passed,
	"provide":             group,
	"provide/clear":       refused(noClearing),
	"provide/once":        passed,
	"provide/stat":        passed,
	"pubsub":              group,
	"pubsub/ls":           passed,
	"pubsub/peers":        passed,
	"pubsub/pub":          passed,
	"pubsub/reset":        passed,
	"pubsub/sub":          passed,
	"routing":             group,
	"routing/findpeer":    passed,
	"routing/findprovs":   passed,
	"routing/get":         passed,
	"routing/provide":     passed,
	"routing/put":         passed,
	"routing/reprovide":   passed,
	"swarm":               group,
	"swarm/addrs":         passed,
	"swarm/addrs/autonat": passed,
	"swarm/addrs/listen":  passed,
	"swarm/addrs/local":   passed,
	"swarm/connect":       passed,
	"swarm/disconnect":    passed, // the cluster's nodes connect again
	"swarm/filters":       passed,
	"swarm/filters/add":   refused("it could cut this node off from its cluster; use the machine's firewall"),
	"swarm/filters/rm":    refused("it could cut this node off from its cluster; use the machine's firewall"),
	"swarm/peering":       group,
	"swarm/peering/add":   refused(noSwarm),
	"swarm/peering/ls":    passed,
	"swarm/peering/rm":    refused(noSwarm),
	"swarm/peers":         passed,
	"swarm/resources":     passed,

	// The node itself.
	"commands":                 passed,
	"commands/completion":      nowhere,
	"commands/completion/bash": hidden,
	"commands/completion/fish": hidden,
	"commands/completion/zsh":  hidden,
	"config":                   some(readConfig),
	"config/edit":              refused(noConfig),
	"config/profile":           group,
	"config/profile/apply":     refused(noConfig),
	"config/replace":           refused(noConfig),
	"config/show":              passed,
	"diag":                     group,
	"diag/cmds":                passed,
	"diag/cmds/clear":          passed,
	"diag/cmds/set-time":       passed,
	"diag/datastore":           group,
	"diag/datastore/count":     refused(noDatastore),
	"diag/datastore/get":       refused(noDatastore),
	"diag/datastore/put":       refused(noDatastore),
	"diag/healthy":             passed,
	"diag/profile":             refused(noDebug),
	"diag/sys":                 passed,
	"filestore":                group,
	"filestore/dups":           passed,
	"filestore/ls":             passed,
	"filestore/verify":         some(without("remove-bad-blocks", "it would take blocks from pins behind the cluster's back")),
	"id":                       passed,
	"log":                      group,
	"log/level":                some(readLevel),
	"log/ls":                   passed,
	"log/tail":                 refused(noLog),
	"mount":                    refused("an embedded node mounts nothing"),
	"repo":                     group,
	"repo/ls":                  passed,
	"repo/migrate":             refused("the node is part of this program, which keeps its repository's version"),
	"repo/verify":              some(without("drop", noDropping, "heal", noDropping)),
	"repo/version":             passed,
	"shutdown":                 refused("the node is part of this cluster peer; stop the peer instead"),
	"stats":                    group,
	"stats/bitswap":            passed,
	"stats/bw":                 passed,
	"stats/dht":                passed,
	"stats/provide":            passed,
	"stats/repo":               passed,
	"stats/reprovide":          passed,
	"update":                   refused(noUpdate),
	"update/check":             refused(noUpdate),
	"update/clean":             refused(noUpdate),
	"update/install":           refused(noUpdate),
	"update/revert":            refused(noUpdate),
	"update/versions":          refused(noUpdate),
	"version":                  passed,
	"version/check":            passed,
	"version/deps":             passed,
}

const noDropping = "it would take blocks from pins behind the cluster's back; 'cluster-ctl recover' looks at them and fetches what is bad"

// unlessPinned leaves a put to the node when it pins nothing for sure.
func unlessPinned(c Call) (By, string) {
	if c.has("pin") && !c.is("pin", false) {
		return Cluster, ""
	}
	return Node, ""
}

// unlessRootsPinned leaves an import to the node when it pins nothing for sure.
// Unlike puts, imports pin unless they are told not to.
func unlessRootsPinned(c Call) (By, string) {
	if c.is("pin-roots", false) || c.is("local-only", true) && !c.has("pin-roots") {
		return Node, ""
	}
	return Cluster, ""
}

// without lets a command through unless it has one of some options; they come
// in pairs with the reasons. A switch that is off is none.
func without(pairs ...string) func(Call) (By, string) {
	return func(c Call) (By, string) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if c.has(pairs[i]) && !c.is(pairs[i], false) {
				return Refused, "option " + strconv.Quote(pairs[i]) + ": " + pairs[i+1]
			}
		}
		return Node, ""
	}
}

// shown are the sections of Kubo's config that hold no secret. Kubo itself
// conceals the credentials in Pinning.
var shown = []string{"Addresses", "AutoConf", "AutoNAT", "Bootstrap", "DNS", "Datastore", "Discovery", "Experimental", "Gateway", "HTTPRetrieval",
	"Import", "Internal", "Ipns", "Migration", "Mounts", "Peering", "Pinning", "Provide", "Provider", "Pubsub", "Reprovider", "Routing", "Swarm", "Version"}

// readConfig lets a value of the config be read. None is set: those that are
// the cluster's would be ignored, and others can keep the peer from starting,
// or open it, at its next start.
func readConfig(c Call) (By, string) {
	if len(c.Args) > 1 {
		return Refused, configKey(c.Args[0]) + " is not set here: " + noConfig
	}
	if len(c.Args) == 1 {
		section, _, _ := strings.Cut(c.Args[0], ".")
		if c.Args[0] != "Identity.PeerID" && !slices.Contains(shown, section) {
			return Refused, configKey(c.Args[0]) + " is not shown: it may hold secrets; 'ipfs config show' shows the config without them"
		}
	}
	return Node, ""
}

// settings are those of the peer that take the place of Kubo's, by the
// beginning of the key.
var settings = []struct{ key, setting string }{
	{"Addresses.Announce", "ipfs.announce"},
	{"Addresses.AppendAnnounce", "ipfs.announce"},
	{"Addresses.API", "ipfsproxy.listen"},
	{"Addresses.Gateway", "ipfs.gateway_listen"},
	{"Addresses.Swarm", "ipfs.swarm"},
	{"API.Authorizations", "http.users"},
	{"AutoNAT", "ipfs.public"},
	{"Datastore.StorageMax", "ipfs.storage_max"},
	{"Discovery", "ipfs.public"},
	{"Routing", "ipfs.public"},
	{"Swarm.RelayClient", "ipfs.public"},
}

// configKey names a key, with the setting that stands for it.
func configKey(key string) string {
	for _, s := range settings {
		if key == s.key || strings.HasPrefix(key, s.key+".") {
			return strconv.Quote(key) + " (here the setting " + s.setting + ")"
		}
	}
	return strconv.Quote(key)
}

// readLevel lets levels of the log be read.
func readLevel(c Call) (By, string) {
	if len(c.Args) > 1 {
		return Refused, noLog
	}
	return Node, ""
}

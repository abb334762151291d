package lint

// module is the path that import paths of this tree begin with.
const module = "holdfast"

// A layer says which packages of this tree a package and those beneath it may
// import besides one another. Tests may import what they like.
type layer struct {
	pkg  string // folder below the root; "." is the root
	may  []string
	why  string
	main bool // a program: nobody may import it
}

// everything below the wiring.
var everything = []string{"internal/kuborpc", "api", "state", "allocator", "consensus", "pintracker", "monitor", "adder", "node", "cluster",
	"restapi", "ipfsproxy", "web", "rpc", "client", "config", "internal/telemetry", "internal/faultfs", "internal/fencefs", "internal/presence", "internal/backup", "internal/crowd", "internal/drain", "internal/front", "internal/route", "internal/spool", "internal/version"}

var layers = []layer{
	{pkg: "api", why: "nouns are at the bottom"},
	{pkg: "state", may: []string{"api", "internal/fencefs", "internal/presence"}, why: "the pinset is pure"},
	{pkg: "allocator", may: []string{"api"}, why: "placement is pure"},
	{pkg: "consensus", may: []string{"api", "internal/msgpack"}, why: "engines do not know one another"},
	{pkg: "pintracker", may: []string{"api", "internal/fencefs", "internal/presence"}, why: "engines do not know one another"},
	{pkg: "monitor", may: []string{"api"}, why: "engines do not know one another"},
	{pkg: "adder", may: []string{"api"}, why: "engines do not know one another"},
	{pkg: "node", may: []string{"api", "internal/kuborpc"}, why: "engines do not know one another"},
	{pkg: "cluster", may: []string{"api", "state", "allocator"}, why: "the use cases decide; all else is behind their interfaces"},
	{pkg: "restapi", may: []string{"api", "internal/drain", "internal/route", "internal/spool"}, why: "edges call interfaces of their own"},
	{pkg: "ipfsproxy", may: []string{"api", "internal/drain", "internal/kuborpc", "internal/route", "internal/spool"}, why: "edges call interfaces of their own"},
	{pkg: "web", may: []string{"api"}, why: "edges call interfaces of their own"},
	{pkg: "rpc", may: []string{"api", "internal/crowd", "internal/msgpack"}, why: "edges call interfaces of their own"},
	{pkg: "client", may: []string{"api"}, why: "edges call interfaces of their own"},
	{pkg: "config", may: []string{"api", "consensus", "pintracker", "monitor", "adder", "node", "cluster", "restapi", "ipfsproxy", "rpc"}, why: "config fills the packages' Configs"},
	{pkg: "internal/version", why: "it is imported from everywhere"},
	{pkg: "internal/lint", why: "it looks at the tree from outside"},
	{pkg: "internal/fencefs", may: []string{"api"}, why: "it is a file system whose errors have codes"},
	{pkg: "internal/heap", why: "it speaks to Go's runtime alone"},
	{pkg: "internal/kuborpc", why: "a table of Kubo's commands, which node and ipfsproxy both go by"},
	{pkg: "internal/msgpack", why: "it follows bytes and knows no messages"},
	{pkg: "internal/presence", why: "a set of keys knows no pins"},
	{pkg: "internal/backup", may: []string{"api"}, why: "files of pins know no cluster"},
	{pkg: "internal/front", may: []string{"api", "internal/drain", "internal/route"}, why: "it stands before the edges and knows none of them"},
	{pkg: "internal/spool", may: []string{"api"}, why: "it keeps bytes"},
	{pkg: "internal/crowd", why: "it counts and knows no protocols"},
	{pkg: "internal/drain", why: "it speaks HTTP alone"},
	{pkg: "internal/route", why: "it speaks HTTP alone"},
	{pkg: "internal/faultfs", why: "it is a file system"},
	{pkg: "internal/telemetry", may: []string{"api"}, why: "events speak api"},
	{pkg: "internal/daemon", may: everything, why: "the one place that wires a peer"},
	{pkg: "internal/sim", may: append([]string{"internal/daemon"}, everything...), why: "it drives whole peers"},
	{pkg: "internal/dev", may: []string{"api", "config", "internal/daemon", "internal/heap", "internal/version"}, why: "it starts whole peers"},
	{pkg: ".", may: []string{"api", "config", "internal/daemon", "internal/version"}, why: "it offers the daemon's constructor"},
	{pkg: "test", may: []string{"api", "client", "config", "internal/version"}, why: "it uses the programs as their users do"},
	{pkg: "cluster-service", may: []string{"api", "config", "internal/backup", "internal/daemon", "internal/dev", "internal/heap", "internal/version", "client"}, why: "mains only start things", main: true},
	{pkg: "cluster-ctl", may: []string{"api", "client", "internal/version"}, why: "it is a client", main: true},
}

// A confinement keeps packages of others to few of ours.
type confinement struct {
	path  string // import path
	exact bool   // false: also what is beneath it
	to    []string
	why   string
}

var confinements = []confinement{
	{path: "github.com/ipfs/kubo", to: []string{"node", "adder"}, why: "the IPFS node is behind interfaces"},
	{path: "github.com/ipfs/boxo", to: []string{"node", "adder"}, why: "the IPFS node is behind interfaces"},
	{path: "github.com/libp2p/go-libp2p", exact: true, to: []string{"node", "internal/daemon"}, why: "the wiring makes the hosts"},
	{path: "github.com/libp2p/go-libp2p/core/host", to: []string{"node", "internal/daemon", "rpc", "consensus/libp2ptransport"}, why: "only transports see a host"},
	{path: "github.com/libp2p/go-libp2p-gorpc", to: []string{"rpc"}, why: "nothing inside one process goes through rpc"},
	{path: "github.com/libp2p/go-libp2p-gostream", to: []string{"consensus/libp2ptransport"}, why: "raft's transport is its only user"},
	{path: "github.com/hashicorp/raft", to: []string{"consensus", "internal/daemon", "internal/sim"}, why: "consensus hides raft"},
	{path: "github.com/hashicorp/raft-wal", to: []string{"consensus"}, why: "consensus hides raft"},
	{path: "github.com/urfave/cli/v2", to: []string{"cluster-service", "cluster-ctl"}, why: "flags are where program meets operator"},
	{path: "github.com/gorilla/mux", to: []string{"restapi", "ipfsproxy", "web"}, why: "routes belong to the edges"},
	{path: "github.com/prometheus/client_golang", to: []string{"internal/telemetry", "internal/daemon"}, why: "one adapter turns events into metrics"},
}

// pure packages get time, chance and bytes as arguments.
var pure = []string{"state", "allocator"}

// impureImports are standard packages that a pure package must not import,
// with what is beneath them.
var impureImports = []string{"os", "net", "math/rand", "crypto/rand", "log", "os/exec", "syscall"}

// impureCalls read or wait for the clock.
var impureCalls = []string{"time.Now", "time.Since", "time.Until", "time.After", "time.AfterFunc", "time.NewTimer",
	"time.NewTicker", "time.Tick", "time.Sleep"}

// light packages end up in programs of others, or must stay quick to test:
// none of their dependencies, direct or not, may be of heavy.
var (
	light = []string{"./api", "./state", "./allocator", "./client", "./restapi", "./cluster-ctl"}
	heavy = []string{"github.com/ipfs/kubo/", "github.com/ipfs/boxo/", "github.com/hashicorp/raft", "github.com/libp2p/go-libp2p/p2p/"}
)

// maxMainLines is how long the file with a program's main may be.
const maxMainLines = 60

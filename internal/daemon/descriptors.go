package daemon

import (
	"fmt"
	"syscall"
)

// descriptors is how the file descriptors of a peer are shared out. Raft and
// the stores must never meet EMFILE: it looks to them like a disk that fails,
// and ends the process. So all that others can make this peer open is bounded.
type descriptors struct {
	perAPI  int  // connections of each HTTP API
	cluster int  // connections of the cluster swarm
	ipfs    int  // of the IPFS swarm; those over QUIC take none
	scarce  bool // full stores may need more than is left
}

const (
	// fixedDescriptors is what a peer has open besides: logs, listeners, the
	// files of a compaction, a snapshot or a backup that is being written.
	fixedDescriptors = 80
	leastDescriptors = 256
	mostPerAPI       = 4096
	// storeDescriptors is what the stores of pinset, tracker and IPFS node open at
	// most once they are large: 512 and twice 1000 tables.
	storeDescriptors = 2512
)

// shareDescriptors makes shares of the limit. Go's runtime has raised the soft
// limit to the hard one.
func (o Options) shareDescriptors() (descriptors, error) {
	if o.Seams.simulated() {
		return descriptors{}, nil
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return descriptors{}, fmt.Errorf("ask for the limit of open files: %w", err)
	}
	return share(int(min(limit.Cur, 1<<20)) / max(1, o.Peers))
}

func share(total int) (descriptors, error) {
	if total < leastDescriptors {
		return descriptors{}, fmt.Errorf("a peer needs to open at least %d files and connections, and better 65536; this one may open %d: "+
			"raise LimitNOFILE of its systemd unit, 'ulimit -n', or --ulimit nofile of the container", leastDescriptors, total)
	}
	rest := total - fixedDescriptors
	scarce := rest < storeDescriptors*3/2
	// Large stores come first, but a peer that can serve nobody is of no use.
	rest = max(rest-storeDescriptors, rest/3, leastDescriptors-fixedDescriptors)
	return descriptors{
		scarce:  scarce,
		perAPI:  min(mostPerAPI, rest/16), // four of them
		cluster: rest / 8,
		ipfs:    rest / 4,
	}, nil
}

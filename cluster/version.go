package cluster

import (
	"context"

	"holdfast/api"
	"holdfast/state"
)

// versioned is a command that not every version of the program knows. Those
// without a version are known to all.
type versioned interface{ Version() uint32 }

// allowed refuses a command that the cluster has not agreed on yet: a peer that
// does not know it would have to stop.
func (c *Cluster) allowed(cmd command) error {
	v, ok := cmd.(versioned)
	if !ok || v.Version() <= c.state.Version() {
		return nil
	}
	return api.Errorf(api.CodeUnsupported, "this needs commands of version %d, and the cluster uses version %d until every peer runs a program that knows the newer; upgrade all peers", v.Version(), c.state.Version())
}

// minVersion is the highest version of commands that all members know.
func (c *Cluster) minVersion() (uint32, error) {
	members, err := c.state.Members()
	if err != nil || len(members) == 0 {
		return 1, err
	}
	lowest := c.state.Known()
	for _, m := range members {
		lowest = min(lowest, max(1, m.CommandVersion))
	}
	return lowest, nil
}

// raiseVersion lets the cluster use newer commands once all members know them.
func (c *Cluster) raiseVersion(ctx context.Context) {
	version, err := c.minVersion()
	if err != nil {
		c.logger.Error("members not read", "err", err)
		return
	}
	if version <= c.state.Version() {
		return
	}
	if _, err := c.propose(ctx, state.RaiseVersionCommand{Version: version}); err != nil {
		c.logger.Warn("newer commands not allowed yet", "version", version, "err", err)
		return
	}
	c.logger.Info("all peers know newer commands, which are used from now on", "version", version)
}

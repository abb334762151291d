package sim

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/cluster"
	"holdfast/consensus"
)

// spoilFiles turns a byte in the middle of each file of a stopped peer that a
// condition selects, below a folder.
func (p *Peer) spoilFiles(folder string, selected func(name string) bool) (spoilt int) {
	c := p.cluster
	c.t.Helper()
	names, err := p.fs.List(folder)
	c.must(err)
	for _, name := range names {
		file := path.Join(folder, name)
		if info, err := p.fs.Stat(file); err != nil || info.IsDir() {
			c.must(err)
			spoilt += p.spoilFiles(file, selected)
			continue
		}
		if !selected(file) {
			continue
		}
		f, err := p.fs.Open(file)
		c.must(err)
		data, err := io.ReadAll(f)
		c.must(errors.Join(err, f.Close()))
		data[len(data)/2] ^= 0xff
		w, err := p.fs.Create(file, vfs.WriteCategoryUnspecified)
		c.must(err)
		_, err = w.Write(data)
		c.must(errors.Join(err, w.Sync(), w.Close()))
		spoilt++
	}
	return spoilt
}

// alerts are those about a peer, as another one tells them.
func (c *Cluster) alerts(via, about *Peer) (alerts []api.Alert) {
	c.t.Helper()
	c.must(c.Use(via, time.Minute, func(_ context.Context, cl *cluster.Cluster) error {
		alerts = slices.DeleteFunc(cl.Alerts(), func(a api.Alert) bool { return a.Peer != about.ID })
		return nil
	}))
	return alerts
}

// manySnapshots makes a log of which snapshots are taken all the time, and which is
// kept as well.
func manySnapshots(pace *consensus.Config) {
	pace.SnapshotThreshold, pace.TrailingLogs, pace.SnapshotInterval = 16, 10_000, time.Second
}

// TestDamageIsTold: a peer that found its pinset or a snapshot damaged goes on
// with what is whole, and every peer tells of it and what to do.
func TestDamageIsTold(t *testing.T) {
	for alert, files := range map[string]struct {
		folder   string
		selected func(file string) bool
	}{
		api.AlertPinset: {dir + "/state", func(file string) bool { return strings.HasPrefix(path.Base(file), "MANIFEST-") }},
		api.AlertSnapshot: {dir + "/raft/snapshots", func(file string) bool {
			return path.Base(file) == "meta.json"
		}},
	} {
		t.Run(alert, func(t *testing.T) {
			simulate(t, Options{Peers: 3, Pace: manySnapshots}, func(c *Cluster) {
				p := c.Follower()
				c.churn(c.Leader(), 0)
				c.AwaitSettled()
				p.Stop()
				if p.spoilFiles(files.folder, files.selected) == 0 {
					t.Fatal("there is nothing to damage")
				}
				c.Start(p)
				for _, via := range c.Peers() {
					c.until("alert "+alert, func() error {
						alerts := c.alerts(via, p)
						if !slices.ContainsFunc(alerts, func(a api.Alert) bool {
							return a.Name == alert && strings.Contains(a.Message, "look at the disk")
						}) {
							return errors.New("it is not told")
						}
						return nil
					})
				}
				c.AwaitSettled()
			})
		})
	}
}

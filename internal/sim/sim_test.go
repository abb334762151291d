package sim

import (
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"holdfast/consensus"
)

// TestMain lets a little more garbage gather than Go does: a bubble keeps some
// megabytes and drops a hundred, and collecting is a third of the work then.
func TestMain(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	os.Exit(m.Run())
}

// simulate runs a scenario in a bubble of its own, and checks the invariants
// in the end. It is a test's only one, and runs beside those of others, for a
// bubble keeps less than one core busy.
func simulate(t *testing.T, o Options, scenario func(*Cluster)) {
	t.Helper()
	t.Parallel()
	if o.Seed == 0 {
		o.Seed = number(t, "SIM_SEED", 1)
	}
	var c *Cluster
	var suspects []*operation // all there were if empty
	finished := false         // a fatal failure ends this function, a deadlock panics
	defer func() {
		if t.Failed() || !finished {
			tell(t, o.Seed, c, suspects)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		c = New(t, o)
		defer c.Close()
		scenario(c)
		if !t.Failed() {
			c.Settle()
			c.Check()
		}
	})
	// The checker counts real time, so it runs outside.
	if !t.Failed() {
		var result porcupine.CheckResult
		if suspects, result = c.history.check(20 * time.Second); result != porcupine.Ok {
			t.Errorf("INV-LINEAR (seed %d): %s", o.Seed, result)
		}
	}
	finished = true
}

// tell says what led to a failure. There is no cluster if it was not founded.
func tell(t *testing.T, seed uint64, c *Cluster, suspects []*operation) {
	t.Logf("repeat with SIM_SEED=%d", seed)
	if c == nil {
		return
	}
	for _, deed := range c.deeds {
		t.Log(deed)
	}
	if len(suspects) == 0 {
		suspects = c.history.all()
	}
	for _, o := range suspects {
		t.Log(o)
	}
}

// TestFatal: what was done to a cluster is told after a failure that ends the
// test at once, too.
func TestFatal(t *testing.T) {
	const deed = "the one deed"
	if os.Getenv("SIM_FATAL") != "" {
		simulate(t, three, func(c *Cluster) {
			c.deeds = append(c.deeds, deed)
			c.t.Fatal("fatal")
		})
	}
	again := exec.Command(os.Args[0], "-test.run", "^TestFatal$")
	again.Env = append(os.Environ(), "SIM_FATAL=1")
	out, err := again.CombinedOutput()
	if err == nil || !strings.Contains(string(out), deed) {
		t.Errorf("%v\n%s", err, out)
	}
}

// number reads a number from the environment.
func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text, set := os.LookupEnv(variable)
	if !set {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// smallSnapshots has the log compacted after a few entries.
func smallSnapshots(pace *consensus.Config) {
	pace.SnapshotThreshold, pace.TrailingLogs, pace.SnapshotInterval = 16, 4, time.Second
}

// TestSeeds torments clusters at random. SIM_SEED is the first seed, SIM_RUNS
// how many there are.
func TestSeeds(t *testing.T) {
	runs := uint64(20)
	if raced {
		runs = 6
	}
	first, runs := number(t, "SIM_SEED", 1), number(t, "SIM_RUNS", runs)
	for seed := first; seed < first+runs; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			o := Options{Peers: 3 + 2*int(seed%2), Seed: seed}
			if seed%3 != 0 {
				o.Pace = smallSnapshots
			}
			simulate(t, o, func(c *Cluster) {
				w := &Workload{Clients: 5, Keys: 6, Each: 1000, Think: time.Second}
				w.Begin(c)
				c.Torment(8)
				w.End()
			})
		})
	}
}

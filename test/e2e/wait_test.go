//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// pollInterval is how often eventually asks.
const pollInterval = 50 * time.Millisecond

// eventually asks check until it returns nil, and fails the test with its last
// error when that takes longer than the limit.
func eventually(t *testing.T, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	if err := poll(t.Context(), limit, check); err != nil {
		t.Fatalf("%s: not within %s: %v", what, limit, err)
	}
}

// poll asks check until it returns nil; it returns the last error when the
// limit is over.
func poll(ctx context.Context, limit time.Duration, check func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // what was cut off by the limit says less than what came before
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last
		}
	}
}

// pause waits where a test chooses an instant at random, and not for anything.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// seeded is the source of a test's random choices; the seed is logged.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("E2E_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("E2E_SEED: %v", err)
		}
	}
	t.Logf("E2E_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// lastPort is where freePort goes on looking. Ports are taken from below the
// range of outgoing connections, so that none of those takes the port of a
// peer that is being restarted.
var lastPort atomic.Uint32

const firstPort, ports = 10240, 20000

// freePort finds a TCP port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	lastPort.CompareAndSwap(0, uint32(os.Getpid()*40%ports)+1)
	for range ports {
		port := firstPort + int(lastPort.Add(1))%ports
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("there is no free port")
	return 0
}

package daemon

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

// The admin socket lies in the peer's folder, however long its path is.
func TestAdminSocketOfALongPath(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for _, length := range []int{10, 200} {
		dir := filepath.Join(t.TempDir(), strings.Repeat("d", length))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- serveAdmin(ctx, dir, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
		}()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var err error
		for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); <-tick.C {
			if err = AskAlive(ctx, dir); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("%d: %v", length, err)
		}
		info, err := os.Lstat(filepath.Join(dir, socketFile))
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%d: %v, %v", length, info, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, socketFile)); !os.IsNotExist(err) {
			t.Errorf("%d: the socket is left: %v", length, err)
		}
		if err := AskAlive(t.Context(), dir); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("%d: %v", length, err)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("in the temporary folder: %v, %v", left, err)
	}
}

// Only the owner of the folder may answer at its socket, or root.
func TestWhoServesTheAdminSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if uid, known, err := peerUser(c); err != nil || known && int(uid) != os.Getuid() {
		t.Errorf("user %d, %v, %v", uid, known, err)
	}
	for _, test := range []struct {
		uid, owner uint32
		want       bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1001, 0, false}} {
		if mayServe(test.uid, test.owner) != test.want {
			t.Errorf("%+v", test)
		}
	}
}

// Shares of any limit fit into it.
func TestShareDescriptors(t *testing.T) {
	for _, total := range []int{leastDescriptors, 300, 1024, 4096, 65536, 1 << 20} {
		d, err := share(total)
		if err != nil {
			t.Fatal(err)
		}
		sum := fixedDescriptors + 4*d.perAPI + d.cluster + d.ipfs
		if !d.scarce {
			sum += storeDescriptors
		}
		if sum > total || d.perAPI < 8 || d.cluster < 16 || d.ipfs < 32 || d.scarce != (total < 4096) {
			t.Errorf("%d: %+v, together %d", total, d, sum)
		}
	}
	if _, err := share(leastDescriptors - 1); err == nil || !strings.Contains(err.Error(), "LimitNOFILE") {
		t.Error(err)
	}
}

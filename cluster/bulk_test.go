package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

func bulkPin(n, cid int, o api.PinOptions) api.BulkLine {
	return api.BulkLine{Line: n, Cid: testCid(cid), Options: o, RequestID: fmt.Sprint("line ", n)}
}

// bulkAll runs a bulk write to its end.
func bulkAll(t *testing.T, c *Cluster, lines []api.BulkLine) []api.BulkResult {
	t.Helper()
	results := slices.Collect(c.Bulk(t.Context(), slices.Values(lines)))
	if len(results) != len(lines) {
		t.Fatalf("%d results of %d lines", len(results), len(lines))
	}
	for i, r := range results {
		if r.Line != lines[i].Line {
			t.Fatalf("result %d is of line %d, want %d", i, r.Line, lines[i].Line)
		}
	}
	return results
}

// Lines of one CID take effect in their order, whatever is between them.
func TestBulkOrder(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, 3, nil)
	var lines []api.BulkLine
	pinned := map[int]string{}
	want := make([]api.Code, 0, 5000)
	for n := range 5000 {
		c := random.IntN(40)
		line := bulkPin(n+1, c, api.PinOptions{Name: fmt.Sprint("line ", n)})
		_, exists := pinned[c]
		code := api.Code("")
		switch {
		case random.IntN(20) == 0:
			line.Err = api.Errorf(api.CodeInvalid, "bad line")
			code = api.CodeInvalid
		case random.IntN(3) == 0:
			line.Unpin, line.Options = true, api.PinOptions{}
			if !exists {
				code = api.CodeNotFound
			}
			delete(pinned, c)
		default:
			pinned[c] = line.Options.Name
		}
		want = append(want, code)
		lines = append(lines, line)
	}
	for i, result := range bulkAll(t, w.cluster, lines) {
		if code := errorCode(result.Err); code != want[i] {
			t.Fatalf("line %d: %v, want %q", result.Line, result.Err, want[i])
		}
		if want[i] == "" && !lines[i].Unpin && (result.Pin.Name != lines[i].Options.Name || result.Index == 0) {
			t.Fatalf("line %d: %+v", result.Line, result)
		}
	}
	for c := range 40 {
		if name := w.get(testCid(c)).Name; name != pinned[c] {
			t.Errorf("pin %d is named %q, want %q", c, name, pinned[c])
		}
	}
}

func errorCode(err *api.Error) api.Code {
	if err == nil {
		return ""
	}
	return err.Code
}

// The same lines again return the same results, with the same request ids or
// with others, and log nothing but unpins and one barrier per chunk.
func TestBulkAgain(t *testing.T) {
	w := newWorld(t, 3, nil)
	var lines []api.BulkLine
	for n := range 3000 {
		lines = append(lines, bulkPin(n+1, n, api.PinOptions{Name: "x", Metadata: map[string]string{"k": "v"}}))
	}
	lines = append(lines, api.BulkLine{Line: 3001, Cid: testCid(5), Unpin: true, RequestID: "line 3001"})
	first := bulkAll(t, w.cluster, lines[:3000])
	unpinned := bulkAll(t, w.cluster, lines[3000:])
	if repeat := bulkAll(t, w.cluster, lines[3000:]); repeat[0].Err != nil || repeat[0].Index != unpinned[0].Index {
		t.Errorf("unpin again: %+v, first %+v", repeat[0], unpinned[0])
	}
	before := w.state.Applied()
	again := bulkAll(t, w.cluster, lines[:3000])
	for i := range lines[:5] {
		lines[i].RequestID = "another"
	}
	other := bulkAll(t, w.cluster, lines[:5])
	for i, result := range again {
		if i != 5 && (result.Err != nil || result.Pin.Revision != first[i].Pin.Revision || result.Index != first[i].Index) {
			t.Fatalf("line %d: %+v, first %+v", result.Line, result, first[i])
		}
	}
	for i, result := range other {
		if result.Err != nil || result.Pin.Revision != first[i].Pin.Revision {
			t.Errorf("line %d with another id: %+v", result.Line, result)
		}
	}
	// Line 6 was carried out before its CID was unpinned: the repeat returns
	// that, and pins nothing.
	if again[5].Err != nil || again[5].Index != first[5].Index || w.get(testCid(5)).Revision != 0 {
		t.Errorf("line 6 again: %+v; the pin is %+v", again[5], w.get(testCid(5)))
	}
	if n := w.state.Applied() - before; n != 1 {
		t.Errorf("%d entries were logged", n)
	}
}

// A chunk whose answer was lost with its leader goes to the next one under the
// same ids, and each of its lines takes effect once.
func TestBulkLeaderLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		lines := []api.BulkLine{bulkPin(1, 1, api.PinOptions{Name: "a"}), bulkPin(2, 2, api.PinOptions{Name: "b"}),
			{Line: 3, Cid: testCid(3), Unpin: true, RequestID: "line 3"}}
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(3), api.PinOptions{})); err != nil {
			t.Fatal(err)
		}
		w.lose = 2
		for _, result := range bulkAll(t, w.cluster, lines) {
			if result.Err != nil {
				t.Errorf("line %d: %v", result.Line, result.Err)
			}
		}
		// The leader is elsewhere, then here.
		w.leader = testPeer(1)
		for _, result := range bulkAll(t, w.cluster, []api.BulkLine{bulkPin(4, 4, api.PinOptions{})}) {
			if result.Err != nil || w.forwarded != 1 {
				t.Errorf("line %d: %v, forwarded %d times", result.Line, result.Err, w.forwarded)
			}
		}
		// None leads for good: the lines say so, and the bulk goes on.
		w.leader = ""
		for _, result := range bulkAll(t, w.cluster, []api.BulkLine{bulkPin(5, 5, api.PinOptions{}), {Line: 6, Err: api.Errorf(api.CodeInvalid, "x")}}) {
			if want := map[int]api.Code{5: api.CodeNoLeader, 6: api.CodeInvalid}[result.Line]; errorCode(result.Err) != want {
				t.Errorf("line %d: %v", result.Line, result.Err)
			}
		}
	})
}

// The leader loses its place when it decides some lines again. The others were
// logged, so nobody may be told that nothing was done.
func TestBulkLeaderLostInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		abdicate := func() { w.leader = "" }
		second := func() { w.before = abdicate }
		w.before = func() {
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{Name: "other"})); err != nil {
				t.Error(err)
			}
			w.before = second
		}
		lines := []api.BulkLine{bulkPin(1, 1, api.PinOptions{Name: "mine"}), bulkPin(2, 2, api.PinOptions{Name: "mine"})}
		if lines[1].Cid.KeyString() < lines[0].Cid.KeyString() {
			t.Fatal("the first line is not decided first")
		}
		results := bulkAll(t, w.cluster, lines)
		if w.get(testCid(2)).Name != "mine" {
			t.Fatal("line 2 was not logged")
		}
		if errorCode(results[1].Err) != api.CodeUnknownOutcome {
			t.Errorf("line 2 was logged, and its client is told: %v", results[1].Err)
		}
	})
}

// A line that is refused when its chunk is sent again may have been carried out
// the first time.
func TestBulkRefusalAfterLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		w.lose = 1
		time.AfterFunc(10*time.Millisecond, func() {
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{})); err != nil {
				t.Error(err)
			}
		})
		results := bulkAll(t, w.cluster, []api.BulkLine{bulkPin(1, 1, api.PinOptions{Mode: api.ModeDirect}),
			{Line: 2, Cid: testCid(2), Unpin: true, RequestID: "line 2"}})
		if errorCode(results[0].Err) != api.CodeUnknownOutcome {
			t.Errorf("the pin was stored for a moment, and its client was told: %v", results[0].Err)
		}
		if errorCode(results[1].Err) != api.CodeNotFound { // a repeat has the first one's result
			t.Errorf("unpin of nothing: %v", results[1].Err)
		}
	})
}

// Somebody changes a pin between the decision and the log.
func TestBulkConflict(t *testing.T) {
	w := newWorld(t, 3, nil)
	w.before = func() {
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{Name: "other"})); err != nil {
			t.Error(err)
		}
	}
	results := bulkAll(t, w.cluster, []api.BulkLine{bulkPin(1, 1, api.PinOptions{Name: "mine"}), bulkPin(2, 2, api.PinOptions{})})
	if results[0].Err != nil || results[1].Err != nil || w.get(testCid(1)).Name != "mine" {
		t.Errorf("%+v, %+v", results[0], w.get(testCid(1)))
	}
}

// Lines that cannot be placed, inherit or be resolved fail alone.
func TestBulkRefusedLines(t *testing.T) {
	w := newWorld(t, 3, nil)
	results := bulkAll(t, w.cluster, []api.BulkLine{
		bulkPin(1, 1, api.PinOptions{ReplicationFactorMin: 4, ReplicationFactorMax: 4}),
		bulkPin(2, 2, api.PinOptions{PinUpdate: testCid(9)}),
		{Line: 3, Path: "/ipfs/" + testCid(3).String() + "/missing", RequestID: "3"},
		bulkPin(4, 4, api.PinOptions{Name: "four"}),
		bulkPin(5, 5, api.PinOptions{PinUpdate: testCid(4)})})
	codes := make([]api.Code, 0, len(results))
	for _, result := range results {
		codes = append(codes, errorCode(result.Err))
	}
	if want := []api.Code{api.CodeNotEnoughPeers, api.CodeNotFound, api.CodeNotFound, "", ""}; !slices.Equal(codes, want) {
		t.Errorf("got %v, want %v", codes, want)
	}
	if results[4].Pin.Name != "four" {
		t.Errorf("line 5 inherited %+v", results[4].Pin.PinOptions)
	}
}

// A reader that leaves, and a request that ends, leave nothing running.
func TestBulkEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		read := 0
		endless := func(wait bool) iter.Seq[api.BulkLine] {
			return func(yield func(api.BulkLine) bool) {
				for read = 1; yield(bulkPin(read, read, api.PinOptions{})); read++ {
					if wait && read == 10 {
						<-ctx.Done()
						return
					}
				}
			}
		}
		for range w.cluster.Bulk(t.Context(), endless(false)) {
			synctest.Wait()
			if most := (bulkInFlight + 2) * api.MaxBulkChunk; read > most {
				t.Errorf("%d lines were read ahead", read)
			}
			break
		}
		n := 0
		for range w.cluster.Bulk(ctx, endless(true)) {
			if n++; n == 10 {
				go cancel(errors.New("gone"))
			}
		}
		if n != 10 {
			t.Errorf("%d results", n)
		}
	})
}

func (r remote) Bulk(_ context.Context, _ peer.ID, _ []api.BulkLine) ([]api.BulkResult, error) {
	_, err := r.Pin(context.Background(), "", api.PinRequest{})
	return nil, err
}

package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/client"
	"holdfast/restapi"
	"holdfast/restapi/fake"

	"github.com/libp2p/go-libp2p/core/peer"
)

// serve starts the real API over a fake service; first are addresses to be
// tried before it.
func serve(t *testing.T, service *fake.Service, first ...string) *client.Client {
	t.Helper()
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
	t.Cleanup(server.Close)
	return connect(t, client.Config{Addrs: append(first, server.URL)})
}

func connect(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var (
	cidA  = must(api.DecodeCid("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"))
	cidB  = must(api.DecodeCid("QmWATWQ7fVPP2EFGu71UkfnqhYXDYH566qy47CnJDgvs8u"))
	peerA = must(api.DecodePeer("12D3KooWGRUVh7vKjCTiUzvEgYd9Z6DNxqVSqaGeFrMJyC8Mpnn5"))
	peerB = must(api.DecodePeer("12D3KooWHVXoJnv2ifmr9K6LWwJPXxkfvzZRHzjiTZMvybeTnwPy"))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var codes = []api.Code{api.CodeInvalid, api.CodeUnauthorized, api.CodeForbidden, api.CodeNotFound, api.CodeNotEnoughPeers,
	api.CodeConflict, api.CodeTooLarge, api.CodeRateLimited, api.CodeInternal, api.CodeUnsupported, api.CodeNoLeader,
	api.CodeUnavailable, api.CodeUnknownOutcome, api.CodeNoSpace}

func TestEveryCodeSurvives(t *testing.T) {
	for _, code := range codes {
		t.Run(string(code), func(t *testing.T) {
			want := api.Errorf(code, "because of «%s»", code)
			c := serve(t, &fake.Service{
				OnPin:         func(api.PinRequest) (api.PinResult, error) { return api.PinResult{}, fmt.Errorf("pin: %w", want) },
				OnAllocation:  func(api.Cid) (api.Pin, error) { return api.Pin{}, want },
				OnAllocations: yieldPins(want, api.Pin{Cid: cidA}),
				OnStatusAll:   yieldStatus(want),
			})
			c.RetryAtOnce()
			_, err := c.Pin(t.Context(), cidA, api.PinOptions{})
			if api.CodeOf(err) != code || err.Error() != "pin: "+want.Message {
				t.Errorf("pin: %v (%s)", err, api.CodeOf(err))
			}
			_, err = c.Allocation(t.Context(), cidA)
			said := want.Message
			if code == api.CodeNotFound {
				said = "pin is not part of the pinset" // as the incumbent
			}
			if api.CodeOf(err) != code || err.Error() != said {
				t.Errorf("document: %v (%s)", err, api.CodeOf(err))
			}
			n := 0
			for _, err = range c.Allocations(t.Context(), api.PinFilter{}) {
				n++
			}
			if api.CodeOf(err) != code || err.Error() != want.Message || n != 2 {
				t.Errorf("trailer after %d: %v (%s)", n, err, api.CodeOf(err))
			}
			for _, err = range c.StatusAll(t.Context(), api.StatusQuery{}) {
			}
			if api.CodeOf(err) != code || err.Error() != want.Message {
				t.Errorf("stream that fails at once: %v (%s)", err, api.CodeOf(err))
			}
		})
	}
}

func TestPinRoundTrip(t *testing.T) {
	options := api.PinOptions{Name: "a name & more/ü", Mode: api.ModeDirect, ReplicationFactorMin: 1, ReplicationFactorMax: 3,
		UserAllocations: []peer.ID{peerA, peerB}, ExpireAt: time.Now().Add(time.Hour).UTC().Truncate(time.Second),
		Metadata: map[string]string{"k": "v=1&2"}, PinUpdate: cidB,
		Origins: must(api.ParseOrigins([]string{"/ip4/1.2.3.4/tcp/4001/p2p/" + peerA.String()}))}
	var got api.PinRequest
	c := serve(t, &fake.Service{
		OnPin: func(r api.PinRequest) (api.PinResult, error) {
			got = r
			return api.PinResult{Index: 42, Pin: api.Pin{PinOptions: r.Options, Cid: r.Cid, Type: api.TypeData, Allocations: []peer.ID{peerA}, MaxDepth: 0, Revision: 42}}, nil
		},
		OnResolve: func(path string) (api.Cid, error) {
			if path != "/ipns/example.org/a b/ü%2f" {
				t.Errorf("resolve %q", path)
			}
			return cidB, nil
		},
		OnUnpin: func(r api.UnpinRequest) (api.PinResult, error) {
			return api.PinResult{Pin: api.Pin{Cid: r.Cid}, Index: 7}, nil
		},
	})
	result, err := c.Pin(t.Context(), cidA, options)
	if err != nil {
		t.Fatal(err)
	}
	if got.RequestID == "" || got.Cid != cidA || !reflect.DeepEqual(got.Options, options) {
		t.Errorf("the service got\n%+v\nwant\n%+v", got.Options, options)
	}
	if result.Index != 42 || !reflect.DeepEqual(result.Pin.PinOptions, options) || result.Pin.Cid != cidA {
		t.Errorf("the client got %+v", result)
	}
	if result, err = c.PinPath(t.Context(), "/ipns/example.org/a b/ü%2f", api.PinOptions{}); err != nil || result.Pin.Cid != cidB {
		t.Errorf("pin path: %+v, %v", result, err)
	}
	if result, err = c.PinPath(t.Context(), cidA.String(), api.PinOptions{}); err != nil || result.Pin.Cid != cidA {
		t.Errorf("pin path of a CID: %+v, %v", result, err)
	}
	if result, err = c.Unpin(t.Context(), cidA); err != nil || result.Index != 7 {
		t.Errorf("unpin: %+v, %v", result, err)
	}
	if result, err = c.UnpinPath(t.Context(), "/ipfs/"+cidB.String()); err != nil || result.Pin.Cid != cidB {
		t.Errorf("unpin path: %+v, %v", result, err)
	}
	if _, err = c.PinPath(t.Context(), "/etc/passwd", api.PinOptions{}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("odd path: %v", err)
	}
}

func TestNoLeaderIsRetriedWithOneRequestID(t *testing.T) {
	var ids []string
	c := serve(t, &fake.Service{OnPin: func(r api.PinRequest) (api.PinResult, error) {
		ids = append(ids, r.RequestID)
		switch len(ids) {
		case 1:
			return api.PinResult{}, api.Errorf(api.CodeNoLeader, "no leader")
		case 2:
			return api.PinResult{}, api.Errorf(api.CodeUnknownOutcome, "lost")
		}
		return api.PinResult{Index: 3}, nil
	}})
	c.RetryAtOnce()
	result, err := c.Pin(t.Context(), cidA, api.PinOptions{})
	if err != nil || result.Index != 3 {
		t.Fatal(result, err)
	}
	if len(ids) != 3 || ids[0] != ids[1] || ids[1] != ids[2] {
		t.Errorf("request ids %q", ids)
	}
}

func TestFailover(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	starting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
	}))
	defer starting.Close()
	var asked atomic.Int32
	good := httptest.NewServer(restapi.New(&fake.Service{OnPin: func(r api.PinRequest) (api.PinResult, error) {
		asked.Add(1)
		return api.PinResult{Index: 1}, nil
	}}, nil, restapi.Config{}))
	defer good.Close()
	c := connect(t, client.Config{Addrs: []string{dead.URL, starting.URL, good.URL}})
	for range 2 {
		if _, err := c.Pin(t.Context(), cidA, api.PinOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
	_, err := connect(t, client.Config{Addrs: []string{dead.URL}}).ID(t.Context())
	if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), dead.URL) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestBrokenConnection(t *testing.T) {
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tries.Add(1)
		if r.URL.Path == "/allocations" {
			fmt.Fprintf(w, `{"cid":%q}`+"\n", cidA)
			http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	c := connect(t, client.Config{Addrs: []string{server.URL}})
	c.RetryAtOnce()
	_, err := c.Pin(t.Context(), cidA, api.PinOptions{})
	if api.CodeOf(err) != api.CodeUnknownOutcome || tries.Load() < 2 {
		t.Errorf("pin after %d tries: %v (%s)", tries.Load(), err, api.CodeOf(err))
	}
	tries.Store(0)
	err = c.RemovePeer(t.Context(), api.RemoveRequest{Peer: peerA})
	if api.CodeOf(err) != api.CodeUnknownOutcome || tries.Load() != 1 {
		t.Errorf("remove peer after %d tries: %v (%s)", tries.Load(), err, api.CodeOf(err))
	}
	n := 0
	for _, err = range c.Allocations(t.Context(), api.PinFilter{}) {
		n++
	}
	if n != 2 || api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("list broke after %d: %v", n, err)
	}
}

func TestTimeoutAndContext(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	c := connect(t, client.Config{Addrs: []string{server.URL}, Timeout: 20 * time.Millisecond})
	_, err := c.ID(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = connect(t, client.Config{Addrs: []string{server.URL}}).ID(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

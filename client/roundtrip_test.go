package client_test

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/client"
	"holdfast/restapi"
	"holdfast/restapi/fake"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

func collect[T any](t *testing.T, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var out []T
	for item, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, item)
	}
	return out
}

// Every read of the API gives a Go caller what the service said.
func TestReadsRoundTrip(t *testing.T) {
	at := time.Date(2026, 11, 20, 23, 35, 21, 33, time.UTC)
	alerts := []api.Alert{{Name: api.AlertBackup, Peer: peerA, Expire: 1, ReceivedAt: 2, TriggeredAt: at, PeerName: "a", Message: "m", LastGood: &at}}
	addrs := []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/1.2.3.4/tcp/4001/p2p/" + peerA.String())}
	id := api.ID{ID: peerA, Addresses: addrs, ClusterPeers: []peer.ID{peerA, peerB}, ClusterPeersAddresses: addrs, Version: "1", PeerName: "a",
		IPFS: api.IPFSID{ID: peerB, Addresses: addrs}, Role: "leader", State: api.PeerUp}
	pin := api.Pin{Cid: cidA, Type: api.TypeData, Allocations: []peer.ID{peerA}, MaxDepth: -1, Timestamp: at, Revision: 3,
		PinOptions: api.PinOptions{Name: "n", Mode: api.ModeRecursive, ReplicationFactorMin: 1, ReplicationFactorMax: 2, Origins: addrs}}
	info := api.GlobalPinInfo{Cid: cidA, Name: "n", Allocations: []peer.ID{peerA}, Origins: addrs, Created: at, Metadata: map[string]string{"k": "v"},
		PeerMap: map[string]api.PinInfoShort{peerA.String(): {PeerName: "a", IPFS: peerB, IPFSAddresses: addrs, Status: api.StatusPinning,
			Timestamp: at, Error: "e", ErrorCode: api.CodeNoSpace, AttemptCount: 2, PriorityPin: true, Blocks: 4, Bytes: 5, NextAttempt: &at, LastBlockAt: &at}}}
	gc := api.GlobalRepoGC{PeerMap: map[string]api.RepoGC{peerA.String(): {Peer: peerA, PeerName: "a", Keys: []api.RepoGCKey{{Key: cidA}}}}}
	var filter api.PinFilter
	var counted []api.PinFilter
	var query api.StatusQuery
	var locals []bool
	var removed api.RemoveRequest
	var roles []api.Role
	var next peer.ID
	one := func(_ api.Cid, local bool) (api.GlobalPinInfo, error) {
		locals = append(locals, local)
		return info, nil
	}
	c := serve(t, &fake.Service{
		OnID:                 func() (api.ID, error) { return id, nil },
		Release:              api.Version{Version: "1.2.3", Commit: "abc"},
		OnAlerts:             func() []api.Alert { return alerts },
		OnPeers:              func() iter.Seq2[api.ID, error] { return fake.Yields(nil, id, api.ID{ID: peerB, Error: "no answer"}) },
		OnRemovePeer:         func(r api.RemoveRequest) error { removed = r; return nil },
		OnSetRole:            func(r api.RoleRequest) error { roles = append(roles, r.Role); return nil },
		OnTransferLeadership: func(p peer.ID) error { next = p; return nil },
		OnRepoGC:             func(local bool) (api.GlobalRepoGC, error) { locals = append(locals, local); return gc, nil },
		OnAllocation:         func(api.Cid) (api.Pin, error) { return pin, nil },
		OnAllocations:        func(f api.PinFilter) iter.Seq2[api.Pin, error] { filter = f; return fake.Yields(nil, pin, pin) },
		OnStatus:             one,
		OnRecover:            one,
		OnCount:              func(f api.PinFilter) (uint64, error) { counted = append(counted, f); return 7, nil },
		OnChanges: func(_ context.Context, since uint64, _ bool) iter.Seq2[api.PinChange, error] {
			if since == 1 {
				return fake.Yields[api.PinChange](api.Errorf(api.CodeGone, "not kept"))
			}
			return fake.Yields(nil, api.PinChange{Index: since + 1, Cid: cidA, Pin: &pin}, api.PinChange{Index: since + 2, Cid: cidB, Removed: true})
		},
		OnStatusAll: func(q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] { query = q; return fake.Yields(nil, info) },
		OnRecoverAll: func(local bool) iter.Seq2[api.GlobalPinInfo, error] {
			locals = append(locals, local)
			return fake.Yields[api.GlobalPinInfo](nil)
		},
	})
	ctx := t.Context()
	conditions := api.PinFilter{Types: []api.PinType{api.TypeData, api.TypeMeta}, Peer: peerB, Name: "a b&", NamePrefix: "\x00\xff",
		Meta: map[string]string{"k=": "v", "\xff": ""}, CreatedAfter: at, CreatedBefore: at.Add(time.Hour)}
	wantFilter := conditions
	wantFilter.After, wantFilter.Limit = cidB, 7
	wantQuery := api.StatusQuery{Pins: conditions, Filter: api.StatusPinned | api.StatusError, Cids: []api.Cid{cidA, cidB}, Local: true, After: cidB, Limit: 8}
	for name, pair := range map[string][2]any{
		"id":          {must(c.ID(ctx)), id},
		"version":     {must(c.Version(ctx)), api.Version{Version: "1.2.3", Commit: "abc"}},
		"allocation":  {must(c.Allocation(ctx, cidA)), pin},
		"allocations": {collect(t, c.Allocations(ctx, wantFilter)), []api.Pin{pin, pin}},
		"status":      {must(c.Status(ctx, cidA, false)), info},
		"recover":     {must(c.Recover(ctx, cidA, true)), info},
		"status all":  {collect(t, c.StatusAll(ctx, wantQuery)), []api.GlobalPinInfo{info}},
		"count":       {must(c.Count(ctx, wantFilter)), uint64(7)},
		"statuses":    {must(c.CountStatuses(ctx, api.StatusQuery{Pins: conditions, Limit: 3})), uint64(7)},
		"changes": {collect(t, c.Changes(ctx, 4, false)), []api.PinChange{
			{Index: 5, Cid: cidA, Pin: &pin}, {Index: 6, Cid: cidB, Removed: true}}},
		"gc": {must(c.RepoGC(ctx, true)), gc},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, pair[0], pair[1])
		}
	}
	if peers := collect(t, c.Peers(ctx)); len(peers) != 2 || peers[0].PeerName != "a" || peers[1].Error != "no answer" {
		t.Errorf("peers: %+v", peers)
	}
	if again := collect(t, c.RecoverAll(ctx, true)); len(again) != 0 {
		t.Errorf("recover all: %+v", again)
	}
	if err := c.RemovePeer(ctx, api.RemoveRequest{Peer: peerB, Force: true}); err != nil || removed != (api.RemoveRequest{Peer: peerB, Force: true}) {
		t.Errorf("remove peer: %v, %v", removed, err)
	}
	wishes := []api.Role{api.RoleVoter, api.RoleLearner, api.RoleAuto}
	for _, role := range wishes {
		if err := c.SetRole(ctx, api.RoleRequest{Peer: peerB, Role: role}); err != nil {
			t.Errorf("role %s: %v", role, err)
		}
	}
	if err := c.TransferLeadership(ctx, peerB); err != nil || next != peerB || !reflect.DeepEqual(roles, wishes) {
		t.Errorf("leader %s, %v; roles %v", next, err, roles)
	}
	if err := errors.Join(c.Health(ctx), c.Ready(ctx)); err != nil {
		t.Error(err)
	}
	if got, err := c.Alerts(ctx); err != nil || !reflect.DeepEqual(got, alerts) {
		t.Errorf("alerts %+v, %v", got, err)
	}
	if !reflect.DeepEqual(filter, wantFilter) || !reflect.DeepEqual(query, wantQuery) || !reflect.DeepEqual(locals, []bool{false, true, true, true}) {
		// The map above is made in order, from top to bottom.
		t.Errorf("the service was asked %+v, %+v, local %v", filter, query, locals)
	}
	if !reflect.DeepEqual(counted, []api.PinFilter{conditions, conditions}) {
		t.Errorf("counted %+v", counted)
	}
	for _, err := range c.Changes(ctx, 1, true) {
		if api.CodeOf(err) != api.CodeGone {
			t.Errorf("a feed that does not reach back: %v", err)
		}
	}
	// Who has seen enough stops.
	for got := range c.Allocations(ctx, api.PinFilter{}) {
		if got.Cid != cidA {
			t.Error(got)
		}
		break
	}
}

func TestUnixSocketAndTLS(t *testing.T) {
	service := &fake.Service{Release: api.Version{Version: "9"}}
	handler := restapi.New(service, service, restapi.Config{})
	socket := filepath.Join(t.TempDir(), "api.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	server.Start()
	defer server.Close()
	if v, err := connect(t, client.Config{Addrs: []string{"/unix" + socket}}).Version(t.Context()); err != nil || v.Version != "9" {
		t.Errorf("unix: %v, %v", v, err)
	}
	secure := httptest.NewTLSServer(handler)
	defer secure.Close()
	trust := secure.Client().Transport.(*http.Transport).TLSClientConfig
	if v, err := connect(t, client.Config{Addrs: []string{secure.URL}, TLS: trust}).Version(t.Context()); err != nil || v.Version != "9" {
		t.Errorf("tls: %v, %v", v, err)
	}
	if _, err := connect(t, client.Config{Addrs: []string{secure.URL}}).Version(t.Context()); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("an unknown certificate: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	var seen string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	err := connect(t, client.Config{Addrs: []string{server.URL}, Token: "secret", User: "u"}).Health(t.Context())
	if seen != "Bearer secret" || api.CodeOf(err) != api.CodeUnauthorized {
		t.Errorf("%q, %v", seen, err)
	}
}

package cluster

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// Who has no right to join leaves nothing in the log, and neither does what no
// honest peer would say of itself.
func TestNothingIsLoggedForStrangers(t *testing.T) {
	w := newWorld(t, 2, nil)
	if err := w.cluster.CreateToken(t.Context(), api.TokenRequest{Hash: sha256.Sum256([]byte("good")), ExpiresAt: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	request := func(change func(*api.JoinRequest)) api.JoinRequest {
		r := api.JoinRequest{Credential: "good", Protocol: api.RPCProtocol, Time: time.Now(),
			Member: api.Member{ID: testPeer(50), Name: "new", CommandVersion: w.state.Known()}}
		change(&r)
		return r
	}
	before := w.index
	for name, r := range map[string]struct {
		request api.JoinRequest
		code    api.Code
	}{
		"a bad token":       {request(func(r *api.JoinRequest) { r.Credential = "bad" }), api.CodeForbidden},
		"no token":          {request(func(r *api.JoinRequest) { r.Credential = "" }), api.CodeForbidden},
		"a long name":       {request(func(r *api.JoinRequest) { r.Member.Name = strings.Repeat("x", 2000) }), api.CodeInvalid},
		"a long credential": {request(func(r *api.JoinRequest) { r.Credential = strings.Repeat("x", 2000) }), api.CodeInvalid},
		"no ID":             {request(func(r *api.JoinRequest) { r.Member.ID = "" }), api.CodeInvalid},
		"many addresses": {request(func(r *api.JoinRequest) {
			for range 100 {
				r.Member.Addresses = append(r.Member.Addresses, multiaddr.StringCast("/ip4/127.0.0.1/tcp/1"))
			}
		}), api.CodeInvalid},
		"a long address": {request(func(r *api.JoinRequest) {
			r.Member.Addresses = []multiaddr.Multiaddr{multiaddr.StringCast("/dns4/" + strings.Repeat("x", 2000))}
		}), api.CodeInvalid},
	} {
		for range 10 {
			if _, err := w.cluster.Join(t.Context(), r.request); api.CodeOf(err) != r.code {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := w.cluster.PutMember(t.Context(), api.Member{ID: testPeer(1), Name: strings.Repeat("x", 2000)}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a member takes a long name: %v", err)
	}
	if err := w.cluster.CreateToken(t.Context(), api.TokenRequest{ExpiresAt: time.Now().Add(time.Hour)}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a token without a hash: %v", err)
	}
	if w.index != before {
		t.Errorf("%d entries were logged", w.index-before)
	}
	if _, err := w.cluster.Join(t.Context(), request(func(*api.JoinRequest) {})); err != nil {
		t.Errorf("an honest peer: %v", err)
	}
	after := w.index
	other := request(func(r *api.JoinRequest) { r.Member.ID = testPeer(51) })
	if _, err := w.cluster.Join(t.Context(), other); api.CodeOf(err) != api.CodeForbidden || w.index != after {
		t.Errorf("a used token: %v, %d entries", err, w.index-after)
	}
}

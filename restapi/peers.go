package restapi

import (
	"context"
	"net/http"

	"holdfast/api"

	"github.com/libp2p/go-libp2p/core/peer"
)

func (s *server) alerts(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, append([]api.Alert{}, s.service.Alerts()...)) // never null
}

func (s *server) id(w http.ResponseWriter, r *http.Request) {
	id, err := s.service.ID(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, idJSON(id))
}

func (s *server) version(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, s.service.Version())
}

func (s *server) peers(w http.ResponseWriter, r *http.Request) {
	stream(s, w, r, s.service.Peers(r.Context()), func(e *encoder, id api.ID) { e.value(idJSON(id)) })
}

// addPeer exists to say what to do instead: a peer is admitted by a token, not
// by whoever can reach this port.
func (s *server) addPeer(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, api.Errorf(api.CodeUnsupported,
		"peers are not added over this API; run 'cluster-service token create' on a peer of the cluster and 'cluster-service join TOKEN' on the new one"))
}

func (s *server) removePeer(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	force := q.boolean("force", false)
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	s.onPeer(w, r, func(id peer.ID) error {
		return s.service.RemovePeer(r.Context(), api.RemoveRequest{Peer: id, Force: force})
	})
}

func (s *server) setRole(role api.Role) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.onPeer(w, r, func(id peer.ID) error { return s.service.SetRole(r.Context(), api.RoleRequest{Peer: id, Role: role}) })
	}
}

func (s *server) transferLeadership(w http.ResponseWriter, r *http.Request) {
	s.onPeer(w, r, func(id peer.ID) error { return s.service.TransferLeadership(r.Context(), id) })
}

// onPeer does something with the peer in the path, and answers 204.
func (s *server) onPeer(w http.ResponseWriter, r *http.Request, do func(peer.ID) error) {
	id, err := api.DecodePeer(pathVar(r, "peer"))
	if err == nil {
		err = do(id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) repoGC(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	local := q.boolean("local", false)
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	result, err := s.service.RepoGC(r.Context(), local)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, gcJSON(result))
}

// one answers with the status of the CID in the path, on all peers or, with
// local=true, on this one.
func (s *server) one(w http.ResponseWriter, r *http.Request, ask func(context.Context, api.Cid, bool) (api.GlobalPinInfo, error)) {
	c, err := api.DecodeCid(pathVar(r, "cid"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	q := parseQuery(r)
	local := q.boolean("local", false)
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	status, err := ask(r.Context(), c, local)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, statusJSON(status))
}

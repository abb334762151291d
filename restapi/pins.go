package restapi

import (
	"net/http"
	"strings"
	"time"

	"holdfast/api"

	"github.com/gorilla/mux"
)

func (s *server) pin(w http.ResponseWriter, r *http.Request) {
	c, err := api.DecodeCid(pathVar(r, "cid"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.pinCid(w, r, func() (api.Cid, error) { return c, nil })
}

func (s *server) pinPath(w http.ResponseWriter, r *http.Request) {
	s.pinCid(w, r, func() (api.Cid, error) { return s.resolve(r) })
}

// pinCid reads the options before it resolves anything: what is wrong with a
// request shall not depend on the network.
func (s *server) pinCid(w http.ResponseWriter, r *http.Request, resolve func() (api.Cid, error)) {
	q := parseQuery(r)
	options := q.pinOptions(time.Now())
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	id, err := requestID(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	c, err := resolve()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	result, err := s.service.Pin(r.Context(), api.PinRequest{Cid: c, Options: options, RequestID: id})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answerPin(w, r, result)
}

func (s *server) unpin(w http.ResponseWriter, r *http.Request) {
	c, err := api.DecodeCid(pathVar(r, "cid"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.unpinCid(w, r, c)
}

func (s *server) unpinPath(w http.ResponseWriter, r *http.Request) {
	c, err := s.resolve(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.unpinCid(w, r, c)
}

func (s *server) unpinCid(w http.ResponseWriter, r *http.Request, c api.Cid) {
	id, err := requestID(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	result, err := s.service.Unpin(r.Context(), api.UnpinRequest{Cid: c, RequestID: id})
	if err != nil {
		s.fail(w, r, notPinned(err))
		return
	}
	s.answerPin(w, r, result)
}

// resolve turns the path of a request into a CID. A root CID needs nobody.
func (s *server) resolve(r *http.Request) (api.Cid, error) {
	space, path := pathVar(r, "space"), pathVar(r, "path")
	if space != "ipns" {
		root, beneath, deeper := strings.Cut(mux.Vars(r)["path"], "/") // a CID in base64 may have slashes
		c, err := api.DecodeCid(unescaped(root))
		if err != nil {
			return api.Cid{}, err
		}
		if !deeper {
			return c, nil
		}
		path = c.String() + "/" + unescaped(beneath)
	}
	return s.service.Resolve(r.Context(), "/"+space+"/"+path)
}

func (s *server) allocation(w http.ResponseWriter, r *http.Request) {
	c, err := api.DecodeCid(pathVar(r, "cid"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	pin, err := s.service.Allocation(r.Context(), c)
	if err != nil {
		s.fail(w, r, notPinned(err))
		return
	}
	s.onePin(w, r, pin)
}

// notPinned gives the error of a CID that is not pinned the incumbent's text.
// Scripts look for the CID in what 'pin ls CID' prints, errors included, so the
// text must not repeat it.
func notPinned(err error) error {
	if api.CodeOf(err) != api.CodeNotFound {
		return err
	}
	return &api.Error{Code: api.CodeNotFound, Message: "pin is not part of the pinset"}
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	s.one(w, r, s.service.Status)
}

func (s *server) recover(w http.ResponseWriter, r *http.Request) {
	s.one(w, r, s.service.Recover)
}

func (s *server) recoverAll(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	local := q.boolean("local", false)
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	stream(s, w, r, s.service.RecoverAll(r.Context(), local), (*encoder).status)
}

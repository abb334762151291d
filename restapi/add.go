package restapi

import (
	"net/http"
	"strings"
	"time"

	"holdfast/api"
)

func (s *server) add(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	params := q.addParams(time.Now())
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	id, err := requestID(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	params.RequestID = id
	body, err := r.MultipartReader()
	if err != nil {
		s.fail(w, r, api.Errorf(api.CodeInvalid, "the body must be multipart/form-data with one part per file: %w", err))
		return
	}
	w.Header().Set("Connection", "close") // as the incumbent
	out := s.newOutput(w, r)
	defer out.close()
	switch {
	case !params.StreamChannels:
		out.hold, out.array = true, true
	case !params.Progress || relayed(r):
		// Nobody watches the outputs as they come. What waits until all is over
		// has a status of its own if it fails, and reaches clients and proxies that
		// read nothing before they have sent everything.
		out.hold = true
	}
	out.spill = true
	out.header = func(h http.Header) {
		h.Set("X-Chunked-Output", "1")
		h.Set("Cache-Control", "no-cache")
	}
	out.end(s.adder.Add(r.Context(), body, params, func(item api.AddedOutput) error {
		return add(out, item, func(e *encoder, item api.AddedOutput) { e.value(item) })
	}))
}

// relayed says whether the request came through a proxy as far as that shows.
// Many read no answer before they have sent the whole request, or send no more
// once they have begun to read it.
func relayed(r *http.Request) bool {
	for _, name := range []string{"Via", "Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return !r.ProtoAtLeast(1, 1)
}

// addParams reads the parameters of POST /add, pin options among them.
func (q *query) addParams(now time.Time) api.AddParams {
	p := api.NewAddParams()
	p.PinOptions = q.pinOptions(now)
	p.Format = q.oneOf("format", p.Format, "unixfs", "car")
	p.Layout = q.oneOf("layout", "balanced", "balanced", "trickle")
	if text := q.text("chunker"); text != "" {
		p.Chunker = text
	}
	if text := q.text("hash"); text != "" {
		p.HashFun = text
	}
	// As ipfs add does: only CID version 1 can name other hashes, and version 1
	// goes with raw leaves.
	version := 0
	if p.HashFun != "sha2-256" {
		version = 1
	}
	p.CidVersion = q.integer("cid-version", version)
	if p.CidVersion != 0 && p.CidVersion != 1 {
		q.reject("cid-version", "0 or 1")
	}
	p.RawLeaves = q.boolean("raw-leaves", p.CidVersion > 0)
	p.Wrap = q.boolean("wrap-with-directory", false)
	p.Local = q.boolean("local", false)
	p.Progress = q.boolean("progress", false)
	p.StreamChannels = q.boolean("stream-channels", true)
	p.NoPin = q.boolean("no-pin", false)
	p.OnlyHash = q.boolean("only-hash", false)
	q.boolean("recursive", false) // the client has walked already
	q.boolean("hidden", false)
	q.checkAdd(p)
	return p
}

// checkAdd refuses what does not go together or is not offered.
func (q *query) checkAdd(p api.AddParams) {
	var err *api.Error
	switch {
	case q.boolean("shard", false):
		err = api.Errorf(api.CodeUnsupported, "parameter shard: adding in shards is not offered; leave it out")
	case q.boolean("nocopy", false):
		err = api.Errorf(api.CodeUnsupported, "parameter nocopy: blocks are always copied into the cluster; leave it out")
	case p.Format == "car" && p.Wrap:
		err = api.Errorf(api.CodeInvalid, "parameter wrap-with-directory does not go with format=car, whose root is given")
	case p.PinUpdate.Defined():
		err = api.Errorf(api.CodeInvalid, "parameter pin-update does not go with an add; pin the added CID with it afterwards")
	case p.CidVersion == 0 && p.HashFun != "sha2-256":
		err = api.Errorf(api.CodeInvalid, "parameter hash invalid: cid-version 0 has sha2-256 only; ask for cid-version=1")
	}
	if q.err == nil && err != nil {
		q.err = err
	}
}

func (q *query) oneOf(name, unset string, values ...string) string {
	text := q.text(name)
	if text == "" {
		return unset
	}
	for _, value := range values {
		if text == value {
			return value
		}
	}
	q.reject(name, strings.Join(values, " or "))
	return unset
}

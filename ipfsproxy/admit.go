package ipfsproxy

import (
	"bytes"
	"net/http"
	"slices"
	"strings"

	"holdfast/internal/kuborpc"
)

// visitor is what Kubo judges a client by: a browser on a foreign page must
// not reach the API.
type visitor struct {
	origin, referer, agent, authorization string
}

// verdict is what the node answers to a visitor.
type verdict struct {
	status int
	header http.Header // of every answer, and of a refusal
	later  http.Header // of every answer to a well-formed request
	body   []byte      // of a refusal
}

// What is remembered of visitors: how many, and of how many bytes each.
const (
	maxVerdicts = 1024
	maxVisitor  = 1024
)

func (v visitor) size() int {
	return len(v.origin) + len(v.referer) + len(v.agent) + len(v.authorization)
}

// admit lets the node judge a request that the cluster is to answer: either it
// copies the headers that the node gives such a visitor (CORS) and returns
// those of its configuration, which are for well-formed requests only, or it
// passes the refusal on.
func (p *proxy) admit(w http.ResponseWriter, r *http.Request) (later http.Header, ok bool) {
	v := p.judge(r)
	copyHeader(w.Header(), v.header)
	if v.status == http.StatusOK {
		return v.later, true
	}
	w.WriteHeader(v.status)
	_, _ = w.Write(v.body) // nobody is left to tell
	return nil, false
}

func copyHeader(to, from http.Header) {
	for name, values := range from {
		to[name] = slices.Clone(values)
	}
}

// judge asks the node for its version in the visitor's name, and remembers what
// it says: the node's configuration does not change while it runs.
func (p *proxy) judge(r *http.Request) verdict {
	who := visitor{origin: r.Header.Get("Origin"), referer: r.Referer(), agent: browser(r.UserAgent()), authorization: r.Header.Get("Authorization")}
	p.mu.Lock()
	known, ok := p.verdict[who]
	p.mu.Unlock()
	if ok {
		return known
	}
	probe, err := http.NewRequestWithContext(r.Context(), http.MethodPost, kuborpc.Root+"/version", nil)
	if err != nil {
		return verdict{status: http.StatusBadRequest, body: []byte("bad request\n")}
	}
	for _, name := range []string{"Origin", "Referer", "User-Agent", "Authorization"} {
		if values, ok := r.Header[name]; ok {
			probe.Header[name] = values
		}
	}
	probe.Host, probe.RemoteAddr = r.Host, r.RemoteAddr
	kept := newCapture(64 << 10)
	p.deps.Node.ServeHTTP(kept, probe)
	kept.WriteHeader(http.StatusOK) // what a handler means that says nothing
	v := verdict{status: kept.status, header: kept.header, body: bytes.Clone(kept.body.Bytes())}
	if v.status == http.StatusOK {
		v.header, v.later = make(http.Header), kept.header
		for _, name := range []string{"Vary", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
			if values, ok := kept.header[name]; ok {
				v.header[name] = values
			}
			v.later.Del(name)
		}
		for _, name := range []string{"Content-Type", "Content-Length", "Trailer", "Connection", "X-Chunked-Output", "X-Stream-Output", "Date",
			"Access-Control-Allow-Headers", "Access-Control-Expose-Headers"} {
			v.later.Del(name) // of the answer about the version
		}
	}
	// Anything else may be a passing trouble of the node.
	if lasting := v.status == http.StatusOK || v.status == http.StatusForbidden; lasting && who.size() <= maxVisitor {
		p.mu.Lock()
		if len(p.verdict) >= maxVerdicts {
			clear(p.verdict)
		}
		p.verdict[who] = v
		p.mu.Unlock()
	}
	return v
}

// browser shortens a user agent to what Kubo looks at.
func browser(agent string) string {
	switch {
	case strings.Contains(agent, "Electron"):
		return "Electron"
	case strings.HasPrefix(agent, "Mozilla"):
		return "Mozilla"
	}
	return ""
}

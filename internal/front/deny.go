package front

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"holdfast/api"
)

// DenyREST answers with the REST API's error body.
func DenyREST(w http.ResponseWriter, err *api.Error) {
	status := err.Code.HTTPStatus()
	WriteBody(w, status, map[string]any{"code": status, "message": err.Message, "reason": err.Code})
}

// DenyKubo answers with the Kubo RPC's error body.
func DenyKubo(w http.ResponseWriter, err *api.Error) {
	WriteBody(w, err.Code.HTTPStatus(), map[string]any{"Message": err.Message, "Code": 0, "Type": "error"})
}

// DenyPinning answers with the Pinning Service API's error body.
func DenyPinning(w http.ResponseWriter, err *api.Error) {
	reason := strings.ToUpper(string(err.Code))
	WriteBody(w, err.Code.HTTPStatus(), map[string]any{"error": map[string]string{"reason": reason, "details": err.Message}})
}

// WriteBody answers with JSON.
func WriteBody(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		data = []byte("{}") // cannot happen: these are texts and numbers
	}
	data = append(data, '\n')
	w.Header().Set("Content-Type", "application/json")
	// With its length a client knows the end before the rest of its own upload was read.
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may be gone, and nobody else cares
}

// page is an answer to a request that was not read.
type page struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(status int)      { p.status = status }
func (p *page) Write(b []byte) (int, error) { return p.body.Write(b) }

func (p *page) send(to io.Writer) error {
	answer := http.Response{StatusCode: p.status, ProtoMajor: 1, ProtoMinor: 1, Header: p.header,
		ContentLength: int64(p.body.Len()), Body: io.NopCloser(&p.body), Close: true}
	return answer.Write(to)
}

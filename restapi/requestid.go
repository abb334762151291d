package restapi

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"

	"holdfast/api"
)

const (
	headerIdempotency = "Idempotency-Key"
	maxKeyBytes       = 256
)

var traceable = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// traceID is what a request is called in answers and logs: the client's own
// X-Request-Id when it is harmless.
func traceID(r *http.Request) string {
	if id := r.Header.Get(headerRequestID); traceable.MatchString(id) {
		return id
	}
	return randomID()
}

// requestID is what makes a repeat of a write safe. The key is bound to the
// method and the URL, so that a client which uses one key for two different
// pins does not get the first one's answer for the second.
func requestID(r *http.Request) (string, error) {
	key, err := requestKey(r)
	if err != nil || r.Header.Get(headerIdempotency) == "" {
		return key, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s\n%s", r.Method, r.URL.RequestURI(), key))
	return hex.EncodeToString(sum[:16]), nil
}

// requestKey is the Idempotency-Key as the client sent it, or a new one.
func requestKey(r *http.Request) (string, error) {
	key := r.Header.Get(headerIdempotency)
	if key == "" {
		return randomID(), nil
	}
	if len(key) > maxKeyBytes {
		return "", api.Errorf(api.CodeInvalid, "the %s header has %d bytes; at most %d are allowed", headerIdempotency, len(key), maxKeyBytes)
	}
	return key, nil
}

// randomID returns a version 4 UUID. crypto/rand never fails.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/api"
	"holdfast/internal/front"
	"holdfast/restapi"
)

// The admin socket answers whoever can open a file of the peer's folder: its
// owner. It serves `cluster-service token`, `health` and `state`.

// socketPath is where a peer's admin socket is. Unix socket names are short
// (108 bytes), so that of a deep folder lies in the temporary folder.
func socketPath(dir string) (string, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(absolute, socketFile)
	if len(path) < 100 {
		return path, nil
	}
	sum := sha256.Sum256([]byte(absolute))
	return filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-%d-%s.sock", os.Getuid(), hex.EncodeToString(sum[:8]))), nil
}

type tokenQuery struct {
	TTL time.Duration `json:"ttl"` // nanoseconds
}

// TokenAnswer is a join token and when it ends.
type TokenAnswer struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// serveAdmin serves the admin socket until ctx ends.
func serveAdmin(ctx context.Context, dir string, handler http.Handler) error {
	path, err := socketPath(dir)
	if err != nil {
		return err
	}
	l, err := front.ListenUnix(path, 0o600)
	if err != nil {
		return fmt.Errorf("listen on the admin socket: %w", err)
	}
	return front.ServeOwner(ctx, l, handler)
}

// adminHandler answers on the admin socket of a running peer.
func (d *Daemon) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		var query tokenQuery
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&query); err != nil {
			front.DenyREST(w, api.Errorf(api.CodeInvalid, "read the request: %w", err))
			return
		}
		answer, err := d.CreateToken(r.Context(), query.TTL)
		if err != nil {
			front.DenyREST(w, api.AsError(err))
			return
		}
		front.WriteBody(w, http.StatusOK, answer)
	})
	mux.Handle("/health", restapi.NewHealth(d))
	mux.Handle("/health/", restapi.NewHealth(d))
	d.pinsetRoutes(mux)
	return mux
}

// AskToken asks the running peer of a folder for a join token.
func AskToken(ctx context.Context, dir string, ttl time.Duration) (TokenAnswer, error) {
	var answer TokenAnswer
	body, err := json.Marshal(tokenQuery{TTL: ttl})
	if err != nil {
		return answer, err
	}
	return answer, askAdmin(ctx, dir, http.MethodPost, "/token", string(body), &answer)
}

// AskAlive says whether a peer runs in a folder, and answers.
func AskAlive(ctx context.Context, dir string) error {
	return askAdmin(ctx, dir, http.MethodGet, "/health", "", nil)
}

// AskReady says whether the running peer of a folder can take writes, and if
// not, why.
func AskReady(ctx context.Context, dir string) error {
	return askAdmin(ctx, dir, http.MethodGet, "/health/ready", "", nil)
}

// askAdmin asks the peer of a folder and decodes its answer.
func askAdmin(ctx context.Context, dir, method, path, body string, into any) error {
	response, err := sendAdmin(ctx, dir, method, path, strings.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("read the peer's answer: %w", err)
	}
	return nil
}

// sendAdmin asks the peer of a folder. The caller closes the answer's body; an
// answer that is an error is returned as that.
func sendAdmin(ctx context.Context, dir, method, path string, body io.Reader) (*http.Response, error) {
	socket, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		}}}
	request, err := http.NewRequestWithContext(ctx, method, "http://peer"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "no peer is running in %s (or it belongs to another user): %w", dir, err)
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	var refused struct {
		Message string   `json:"message"`
		Reason  api.Code `json:"reason"`
	}
	if err := json.NewDecoder(response.Body).Decode(&refused); err != nil {
		return nil, fmt.Errorf("the peer answered %s", response.Status)
	}
	return nil, &api.Error{Code: refused.Reason, Message: refused.Message}
}

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/api"
	"holdfast/internal/front"
	"holdfast/restapi"
)

// The admin socket answers whoever can open a file of the peer's folder: its
// owner. It serves `cluster-service token`, `health` and `state`.

// longestSocket is what a unix socket's path may take everywhere (108 bytes
// with its end on Linux, 104 on others).
const longestSocket = 100

// openSocket returns a path to the admin socket in a peer's folder that is
// short enough, valid until it is closed. Where the folder's own is too long,
// the path goes through a descriptor of the folder. It is never in a folder of
// others, who could put a socket of theirs there and hand out forged tokens.
func openSocket(dir string) (path string, closePath func() error, err error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(absolute, socketFile)
	if len(path) <= longestSocket {
		return path, func() error { return nil }, nil
	}
	folder, err := os.Open(absolute)
	if err != nil {
		return "", nil, err
	}
	path = fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), socketFile)
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return "", nil, errors.Join(api.Errorf(api.CodeInvalid, "the path of the peer's folder is too long for its socket (%d bytes; %d are possible): choose a shorter --dir", len(absolute), longestSocket-len(socketFile)-1), folder.Close())
	}
	return path, folder.Close, nil
}

// checkServer makes sure that who answers at the socket is the owner of the
// peer's folder, or root.
func checkServer(c net.Conn, dir string) error {
	uid, known, err := peerUser(c)
	if err != nil || !known {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && !mayServe(uid, owner.Uid) {
		return api.Errorf(api.CodeForbidden, "the peer's socket in %s is served by user %d, who does not own the folder", dir, uid)
	}
	return nil
}

func mayServe(uid, owner uint32) bool { return uid == 0 || uid == owner }

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
	path, closePath, err := openSocket(dir)
	if err != nil {
		return err
	}
	l, err := front.ListenUnix(path, 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("listen on the admin socket: %w", err), closePath())
	}
	// The path must be there until the end, when the socket's file is removed.
	return errors.Join(front.ServeOwner(ctx, l, handler), closePath())
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
	socket, closePath, err := openSocket(dir)
	if err != nil {
		return nil, err
	}
	defer closePath()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			c, err := dialer.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, err
			}
			if err := checkServer(c, dir); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return c, nil
		}}}
	request, err := http.NewRequestWithContext(ctx, method, "http://peer"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if api.CodeOf(err) == api.CodeForbidden {
		return nil, err
	}
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

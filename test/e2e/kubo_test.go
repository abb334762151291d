//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"holdfast/api"
	"holdfast/client"
)

// kubo asks the peer's proxy for a command of Kubo's RPC API. Query is in
// pairs. The caller closes the body.
func (p *testPeer) kubo(ctx context.Context, command string, query ...string) (*http.Response, error) {
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Add(query[i], query[i+1])
	}
	target := fmt.Sprintf("http://127.0.0.1:%d/api/v0/%s?%s", p.ports.proxy, command, values.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return nil, fmt.Errorf("%s on %s: %s: %s", command, p.name, response.Status, strings.TrimSpace(string(text)))
	}
	return response, nil
}

// kuboLines reads an answer that is a stream of JSON values. An error that
// came after its beginning is in the trailer.
func kuboLines[T any](response *http.Response, each func(T) error) error {
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for {
		var value T
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = each(value)
		}
		if err != nil {
			return err
		}
	}
	if text := response.Trailer.Get("X-Stream-Error"); text != "" {
		return errors.New(text)
	}
	return nil
}

// refs lists the CIDs of every block under a root that are in this peer's own
// store; it is an error if one of them is not there.
func (p *testPeer) refs(ctx context.Context, root string) (map[string]bool, error) {
	return p.refList(ctx, "refs", "arg", root, "recursive", "true", "unique", "true", "offline", "true")
}

// localRefs lists the multihashes' CIDs of all blocks in this peer's store.
func (p *testPeer) localRefs(ctx context.Context) (map[string]bool, error) {
	return p.refList(ctx, "refs/local")
}

func (p *testPeer) refList(ctx context.Context, command string, query ...string) (map[string]bool, error) {
	response, err := p.kubo(ctx, command, query...)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	err = kuboLines(response, func(r struct{ Ref, Err string }) error {
		if r.Err != "" {
			return fmt.Errorf("%s on %s: %s", command, p.name, r.Err)
		}
		out[r.Ref] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", command, p.name, err)
	}
	return out, nil
}

// cat reads a file from the peer's own store.
func (p *testPeer) cat(ctx context.Context, c string) ([]byte, error) {
	response, err := p.kubo(ctx, "cat", "arg", c, "offline", "true")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if text := response.Trailer.Get("X-Stream-Error"); err == nil && text != "" {
		err = errors.New(text)
	}
	return data, err
}

// addBytes adds one file over REST and returns its CID.
func (p *testPeer) addBytes(ctx context.Context, content []byte, params api.AddParams) (api.Cid, error) {
	return p.addFrom(ctx, bytes.NewReader(content), params)
}

func (p *testPeer) addFrom(ctx context.Context, content io.Reader, params api.AddParams) (api.Cid, error) {
	var last api.Cid
	err := p.rest.AddPaths(ctx, client.Files{Paths: []string{"-"}, Stdin: content}, params, func(out api.AddedOutput) error {
		if out.Cid.Defined() {
			last = out.Cid
		}
		return nil
	})
	return last, err
}

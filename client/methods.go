package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"holdfast/api"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ID tells who the asked peer is.
func (c *Client) ID(ctx context.Context) (api.ID, error) {
	var out api.ID
	_, err := c.document(ctx, call{method: http.MethodGet, path: "/id"}, &out)
	return out, err
}

// Version tells which release the asked peer runs.
func (c *Client) Version(ctx context.Context) (api.Version, error) {
	var out api.Version
	_, err := c.document(ctx, call{method: http.MethodGet, path: "/version"}, &out)
	return out, err
}

// Ready returns nil when the asked peer can take writes, and unavailable, with
// the reasons, when it says that it cannot.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.document(ctx, call{method: http.MethodGet, path: "/health/ready"}, nil)
	return err
}

// Health returns nil when the asked peer is alive: its process serves. It may
// not be able to take writes; see Ready.
func (c *Client) Health(ctx context.Context) error {
	_, err := c.document(ctx, call{method: http.MethodGet, path: "/health"}, nil)
	return err
}

// Alerts lists what an operator should look at now, newest first.
func (c *Client) Alerts(ctx context.Context) ([]api.Alert, error) {
	var out []api.Alert
	_, err := c.document(ctx, call{method: http.MethodGet, path: "/health/alerts"}, &out)
	return out, err
}

// Peers yields every peer of the cluster; one that could not be asked has its
// Error set.
func (c *Client) Peers(ctx context.Context) iter.Seq2[api.ID, error] {
	return listing[api.ID](ctx, c, call{method: http.MethodGet, path: "/peers"})
}

// RemovePeer takes a peer out of the cluster.
func (c *Client) RemovePeer(ctx context.Context, req api.RemoveRequest) error {
	q := url.Values{}
	if req.Force {
		q.Set("force", "true")
	}
	_, err := c.document(ctx, call{method: http.MethodDelete, path: "/peers/" + req.Peer.String(), query: q, once: true}, nil)
	return err
}

// SetRole says what a peer shall be in the votes.
func (c *Client) SetRole(ctx context.Context, req api.RoleRequest) error {
	verbs := map[api.Role]string{api.RoleVoter: "promote", api.RoleLearner: "demote", api.RoleAuto: "auto"}
	verb, ok := verbs[req.Role]
	if !ok {
		return api.Errorf(api.CodeInvalid, "%q is no role", req.Role)
	}
	_, err := c.document(ctx, call{method: http.MethodPost, path: "/peers/" + req.Peer.String() + "/" + verb}, nil)
	return err
}

// TransferLeadership makes another voter the leader.
func (c *Client) TransferLeadership(ctx context.Context, to peer.ID) error {
	_, err := c.document(ctx, call{method: http.MethodPost, path: "/peers/" + to.String() + "/lead"}, nil)
	return err
}

// Pin asks the cluster to keep a CID and returns the stored pin.
func (c *Client) Pin(ctx context.Context, id api.Cid, options api.PinOptions) (api.PinResult, error) {
	return c.write(ctx, call{method: http.MethodPost, path: "/pins/" + id.String(), query: optionsQuery(options)})
}

// PinPath is Pin of what a path (a CID, or /ipfs/…, /ipns/…, /ipld/…) leads to.
func (c *Client) PinPath(ctx context.Context, path string, options api.PinOptions) (api.PinResult, error) {
	escaped, err := escapePath(path)
	if err != nil {
		return api.PinResult{}, err
	}
	return c.write(ctx, call{method: http.MethodPost, path: "/pins" + escaped, query: optionsQuery(options)})
}

// Unpin asks the cluster to let go of a CID and returns the pin as it was.
func (c *Client) Unpin(ctx context.Context, id api.Cid) (api.PinResult, error) {
	return c.write(ctx, call{method: http.MethodDelete, path: "/pins/" + id.String()})
}

// UnpinPath is Unpin of what a path leads to.
func (c *Client) UnpinPath(ctx context.Context, path string) (api.PinResult, error) {
	escaped, err := escapePath(path)
	if err != nil {
		return api.PinResult{}, err
	}
	return c.write(ctx, call{method: http.MethodDelete, path: "/pins" + escaped})
}

func (c *Client) write(ctx context.Context, k call) (api.PinResult, error) {
	var out api.PinResult
	header, err := c.document(ctx, k, &out.Pin)
	if err != nil {
		return api.PinResult{}, err
	}
	// A server that is not ours sends no index: 0 then.
	out.Index, _ = strconv.ParseUint(header.Get("X-Cluster-Index"), 10, 64)
	return out, nil
}

// escapePath makes a content path part of a URL; a bare CID is short for
// /ipfs/CID.
func escapePath(path string) (string, error) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if !strings.HasPrefix(path, "/") {
		parts = append([]string{"ipfs"}, parts...)
	}
	if len(parts) < 2 || (parts[0] != "ipfs" && parts[0] != "ipns" && parts[0] != "ipld") {
		return "", api.Errorf(api.CodeInvalid, "path %q: give a CID, or a path that begins with /ipfs/, /ipns/ or /ipld/", path)
	}
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return "/" + strings.Join(parts, "/"), nil
}

// Allocation returns a pin of the pinset; not_found when it is not pinned.
func (c *Client) Allocation(ctx context.Context, id api.Cid) (api.Pin, error) {
	var out api.Pin
	_, err := c.document(ctx, call{method: http.MethodGet, path: "/allocations/" + id.String()}, &out)
	return out, err
}

// Allocations yields the pins that a filter selects.
func (c *Client) Allocations(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	q := filterQuery(filter, "filter")
	setText(q, "after", filter.After.String())
	setInt(q, "limit", filter.Limit)
	return listing[api.Pin](ctx, c, call{method: http.MethodGet, path: "/allocations", query: q})
}

// Count returns how many pins a filter selects, whatever its After and Limit.
func (c *Client) Count(ctx context.Context, filter api.PinFilter) (uint64, error) {
	return c.count(ctx, "/allocations", filterQuery(filter, "filter"))
}

// CountStatuses returns how many statuses a query selects, whatever its After
// and Limit.
func (c *Client) CountStatuses(ctx context.Context, query api.StatusQuery) (uint64, error) {
	return c.count(ctx, "/pins", statusQuery(query))
}

func (c *Client) count(ctx context.Context, path string, q url.Values) (uint64, error) {
	q.Set("count", "true")
	var out struct {
		Count *uint64 `json:"count"`
	}
	k := call{method: http.MethodGet, path: path, query: q}
	if _, err := c.document(ctx, k, &out); err != nil {
		return 0, err
	}
	if out.Count == nil {
		return 0, api.Errorf(api.CodeUnsupported, "the peer does not count what %s lists", path)
	}
	return *out.Count, nil
}

// Changes yields what changed in the pinset after a log index (0: all that is
// known), each CID with what stands there now; with follow, until ctx ends. A
// reader that was cut off goes on from the last index of which it has seen a
// later one, since one index may have many changes. Error gone: the feed does
// not reach back so far.
func (c *Client) Changes(ctx context.Context, since uint64, follow bool) iter.Seq2[api.PinChange, error] {
	q := url.Values{"since": {strconv.FormatUint(since, 10)}}
	setBool(q, "follow", follow)
	return listing[api.PinChange](ctx, c, call{method: http.MethodGet, path: "/changes", query: q})
}

// Status tells how far every peer concerned got with a CID; local: only what
// the asked peer knows of itself.
func (c *Client) Status(ctx context.Context, id api.Cid, local bool) (api.GlobalPinInfo, error) {
	var out api.GlobalPinInfo
	_, err := c.document(ctx, call{method: http.MethodGet, path: "/pins/" + id.String(), query: localQuery(local)}, &out)
	return out, err
}

// StatusAll yields the statuses that a query selects.
func (c *Client) StatusAll(ctx context.Context, query api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	q := statusQuery(query)
	setText(q, "after", query.After.String())
	setInt(q, "limit", query.Limit)
	return listing[api.GlobalPinInfo](ctx, c, call{method: http.MethodGet, path: "/pins", query: q})
}

// Recover makes the peers try a failed CID again at once.
func (c *Client) Recover(ctx context.Context, id api.Cid, local bool) (api.GlobalPinInfo, error) {
	var out api.GlobalPinInfo
	_, err := c.document(ctx, call{method: http.MethodPost, path: "/pins/" + id.String() + "/recover", query: localQuery(local)}, &out)
	return out, err
}

// RecoverAll makes the peers try everything that failed again, and yields
// what that was.
func (c *Client) RecoverAll(ctx context.Context, local bool) iter.Seq2[api.GlobalPinInfo, error] {
	return listing[api.GlobalPinInfo](ctx, c, call{method: http.MethodPost, path: "/pins/recover", query: localQuery(local)})
}

// RepoGC makes the IPFS nodes delete what nothing pins.
func (c *Client) RepoGC(ctx context.Context, local bool) (api.GlobalRepoGC, error) {
	var out api.GlobalRepoGC
	_, err := c.document(ctx, call{method: http.MethodPost, path: "/ipfs/gc", query: localQuery(local), once: true}, &out)
	return out, err
}

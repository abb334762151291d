package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"mime/multipart"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// fakeCluster is a cluster of three peers in memory, of which the first two
// hold every new pin and have it at once. Words in a pin's name change that:
// "slow" pins stay queued, "broken" ones fail on the second peer, "failing"
// ones on both.
type fakeCluster struct {
	mu      sync.Mutex
	pins    map[string]api.Pin
	removed map[string]bool
	changes []api.Cid // at index n+1
	wishes  map[string]api.Role
	leader  string // "": the first
}

var (
	fakeTime  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	fakePeers = []struct{ id, ipfs, name string }{
		{"12D3KooWGHTKzeT4KaLGLrbKKyT8zKrBPXAUBRzCAN6ZMDMo4M6M", "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X", "peer0"},
		{"12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3", "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo", "peer1"},
		{"12D3KooWLJtG8fd2hkQzTn96MrLvThmnNQjTUFZwGEsLRz5EmSzc", "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK", "peer2"},
	}
)

func newFakeCluster() *fakeCluster {
	return &fakeCluster{pins: map[string]api.Pin{}, removed: map[string]bool{}, wishes: map[string]api.Role{}}
}

func mustPeer(text string) peer.ID {
	id, err := peer.Decode(text)
	if err != nil {
		panic(err)
	}
	return id
}

func (f *fakeCluster) id(i int) api.ID {
	p := fakePeers[i]
	id := api.ID{ID: mustPeer(p.id), PeerName: p.name, Version: "0.1.0", Commit: "abc", RPCProtocolVersion: api.RPCProtocol,
		IPFS: api.IPFSID{ID: mustPeer(p.ipfs)}, Role: "voter", State: api.PeerUp}
	for _, other := range fakePeers {
		id.ClusterPeers = append(id.ClusterPeers, mustPeer(other.id))
	}
	if f.wishes[p.id] == api.RoleLearner {
		id.Role = "learner"
	}
	if id.Wish = f.wishes[p.id]; id.Wish == api.RoleAuto {
		id.Wish = ""
	}
	if f.leader == p.id || f.leader == "" && i == 0 {
		id.Role = "leader"
	}
	id.Term, id.LeaderChanges = 5, 2
	id.Lag = &api.Lag{Entries: uint64(i), SilentSeconds: 1.25}
	if f.leader == fakePeers[2].id { // which is dead
		heard, free := 42.5, uint64(512<<20)
		id.State, id.Lag, id.Role = api.PeerUnknown, nil, "voter"
		switch i {
		case 0:
			id.Reachable, id.FreeBytes, id.Alerts = []peer.ID{mustPeer(fakePeers[1].id)}, &free, []string{api.AlertDiskLow, api.AlertNoLeader}
		default:
			id.HeardSeconds = &heard
		}
	}
	switch i {
	case 0:
		id.Addresses = []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/9096/p2p/" + p.id)}
		id.IPFS.Addresses = []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/4001/p2p/" + p.ipfs)}
	case 1:
		id.IPFS = api.IPFSID{Error: "its repository is locked"}
	case 2:
		id.Error, id.State = "no answer within 5s", api.PeerDown
	}
	return id
}

func (f *fakeCluster) ID(context.Context) (api.ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.id(0), nil
}

func (f *fakeCluster) Version() api.Version { return api.Version{Version: "0.1.0", Commit: "abc"} }

func (f *fakeCluster) Readiness(context.Context) api.Readiness {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leader == fakePeers[2].id {
		return api.NotReady(api.Condition{Name: api.AlertNoLeader, Message: "this peer knows no leader"})
	}
	return api.NotReady()
}

func (f *fakeCluster) Alerts() []api.Alert {
	lastGood := fakeTime.Add(-24 * time.Hour)
	return []api.Alert{
		{Name: api.AlertBackup, Peer: mustPeer(fakePeers[0].id), PeerName: "peer0", TriggeredAt: fakeTime, Message: "backups of the pinset fail: no such folder", LastGood: &lastGood},
		{Name: api.AlertPing, Peer: mustPeer(fakePeers[2].id), TriggeredAt: fakeTime.Add(-time.Hour), Message: "the peer is down"},
	}
}

func (f *fakeCluster) Peers(context.Context) iter.Seq2[api.ID, error] {
	return func(yield func(api.ID, error) bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i := range fakePeers {
			if !f.removed[fakePeers[i].id] && !yield(f.id(i), nil) {
				return
			}
		}
	}
}

func (f *fakeCluster) RemovePeer(_ context.Context, req api.RemoveRequest) error {
	id := req.Peer
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range fakePeers {
		if p.id == id.String() && !f.removed[p.id] {
			f.removed[p.id] = true
			return nil
		}
	}
	return api.Errorf(api.CodeNotFound, "%s is not a peer of this cluster", id)
}

func (f *fakeCluster) SetRole(_ context.Context, req api.RoleRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wishes[req.Peer.String()] = req.Role
	return nil
}

func (f *fakeCluster) TransferLeadership(_ context.Context, id peer.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wishes[id.String()] == api.RoleLearner {
		return api.Errorf(api.CodeConflict, "%s has no vote; make it a voter first", id)
	}
	f.leader = id.String()
	return nil
}

func (f *fakeCluster) Pin(_ context.Context, r api.PinRequest) (api.PinResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := r.Options
	if o.PinUpdate.Defined() {
		from, ok := f.pins[o.PinUpdate.String()]
		if !ok {
			return api.PinResult{}, notPinned(o.PinUpdate)
		}
		o.Name = from.Name
	}
	if o.ReplicationFactorMin > len(fakePeers) {
		return api.PinResult{}, api.Errorf(api.CodeNotEnoughPeers, "%d replicas are asked for; 3 peers can hold them", o.ReplicationFactorMin)
	}
	if o.ReplicationFactorMin == 0 {
		o.ReplicationFactorMin, o.ReplicationFactorMax = 2, 2
	}
	pin := api.Pin{PinOptions: o, Cid: r.Cid, Type: api.TypeData, Timestamp: fakeTime, Revision: uint64(len(f.pins) + 1)}
	pin.PinUpdate, pin.UserAllocations = api.Cid{}, nil
	if !pin.IsEverywhere() {
		for _, p := range fakePeers[:2] {
			pin.Allocations = append(pin.Allocations, mustPeer(p.id))
		}
	}
	f.pins[r.Cid.String()] = pin
	f.changes = append(f.changes, r.Cid)
	return api.PinResult{Pin: pin, Index: pin.Revision}, nil
}

func notPinned(c api.Cid) error { return api.Errorf(api.CodeNotFound, "%s is not pinned", c) }

func (f *fakeCluster) Unpin(_ context.Context, r api.UnpinRequest) (api.PinResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pin, ok := f.pins[r.Cid.String()]
	if !ok {
		return api.PinResult{}, notPinned(r.Cid)
	}
	delete(f.pins, r.Cid.String())
	f.changes = append(f.changes, r.Cid)
	return api.PinResult{Pin: pin}, nil
}

func (f *fakeCluster) Bulk(ctx context.Context, lines iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult] {
	return func(yield func(api.BulkResult) bool) {
		for line := range lines {
			if !yield(f.line(ctx, line)) {
				return
			}
		}
	}
}

func (f *fakeCluster) line(ctx context.Context, line api.BulkLine) api.BulkResult {
	err, result := line.Err, api.PinResult{}
	if err == nil && !line.Cid.Defined() {
		found, lost := f.Resolve(ctx, line.Path)
		line.Cid, err = found, api.AsError(lost)
	}
	if err == nil {
		change := func() (api.PinResult, error) {
			return f.Pin(ctx, api.PinRequest{Cid: line.Cid, Options: line.Options})
		}
		if line.Unpin {
			change = func() (api.PinResult, error) { return f.Unpin(ctx, api.UnpinRequest{Cid: line.Cid}) }
		}
		var failed error
		result, failed = change()
		err = api.AsError(failed)
	}
	return api.BulkResult{Line: line.Line, Cid: line.Cid, Pin: result.Pin, Index: result.Index, Err: err}
}

// ReadAt is at index 7, for ever.
func (f *fakeCluster) ReadAt(_ context.Context, at api.ReadPoint) (uint64, error) {
	if at.Index > 7 {
		return 0, api.Errorf(api.CodeUnavailable, "this peer has not reached index %d", at.Index)
	}
	return 7, nil
}

func (f *fakeCluster) Resolve(_ context.Context, path string) (api.Cid, error) {
	if path == "/ipns/example.com" {
		return api.DecodeCid("bafkreigaknpexyvxt76zgkitavbwx6ejgfheup5oybpm77f3pxzrvwpfdi")
	}
	return api.Cid{}, api.Errorf(api.CodeInvalid, "%s leads nowhere", path)
}

func (f *fakeCluster) Allocation(_ context.Context, c api.Cid) (api.Pin, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pin, ok := f.pins[c.String()]
	if !ok {
		return api.Pin{}, notPinned(c)
	}
	return pin, nil
}

func (f *fakeCluster) sorted() []api.Pin {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.pins), func(a, b api.Pin) int { return bytes.Compare(a.Cid.Bytes(), b.Cid.Bytes()) })
}

func (f *fakeCluster) Allocations(_ context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return func(yield func(api.Pin, error) bool) {
		left := filter.Limit
		for _, pin := range f.sorted() {
			if !filter.Selects(pin) || bytes.Compare(pin.Cid.Bytes(), filter.After.Bytes()) <= 0 {
				continue
			}
			if left--; !yield(pin, nil) || left == 0 {
				return
			}
		}
	}
}

func (f *fakeCluster) Count(_ context.Context, filter api.PinFilter) (uint64, error) {
	n := uint64(0)
	for _, pin := range f.sorted() {
		if filter.Selects(pin) {
			n++
		}
	}
	return n, nil
}

// Changes yields every change since then, and does not wait for more.
func (f *fakeCluster) Changes(_ context.Context, since uint64, _ bool) iter.Seq2[api.PinChange, error] {
	return func(yield func(api.PinChange, error) bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if since > uint64(len(f.changes)) {
			yield(api.PinChange{}, api.Errorf(api.CodeGone, "the changes after index %d are not kept any more", since))
			return
		}
		for i, c := range f.changes[since:] {
			change := api.PinChange{Index: since + uint64(i) + 1, Cid: c}
			if pin, ok := f.pins[c.String()]; ok {
				change.Pin = &pin
			}
			change.Removed = change.Pin == nil
			if !yield(change, nil) {
				return
			}
		}
	}
}

func (f *fakeCluster) status(c api.Cid) api.GlobalPinInfo {
	f.mu.Lock()
	pin, ok := f.pins[c.String()]
	f.mu.Unlock()
	pin.Cid = c
	info := pin.GlobalInfo()
	for i, p := range fakePeers {
		short := api.PinInfoShort{PeerName: p.name, IPFS: mustPeer(p.ipfs), Timestamp: fakeTime, Status: api.StatusPinned, AttemptCount: 1}
		switch {
		case !ok:
			short.Status, short.AttemptCount = api.StatusUnpinned, 0
		case !pin.AllocatedTo(mustPeer(p.id)):
			short.Status, short.AttemptCount = api.StatusRemote, 0
		case strings.Contains(pin.Name, "slow"):
			short.Status, short.Blocks, short.Bytes = api.StatusPinning, 12, 3<<20
		case strings.Contains(pin.Name, "failing"), strings.Contains(pin.Name, "broken") && i == 1:
			next := fakeTime.Add(time.Minute)
			short.Status, short.Error, short.AttemptCount, short.NextAttempt = api.StatusPinError, "no peer has the block", 3, &next
		}
		info.PeerMap[p.id] = short
	}
	return info
}

func (f *fakeCluster) Status(_ context.Context, c api.Cid, local bool) (api.GlobalPinInfo, error) {
	info := f.status(c)
	if local {
		maps.DeleteFunc(info.PeerMap, func(id string, _ api.PinInfoShort) bool { return id != fakePeers[0].id })
	}
	return info, nil
}

func (f *fakeCluster) StatusAll(_ context.Context, q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	return func(yield func(api.GlobalPinInfo, error) bool) {
		for _, pin := range f.sorted() {
			if len(q.Cids) > 0 && !slices.Contains(q.Cids, pin.Cid) || !q.Pins.Selects(pin) {
				continue
			}
			info := f.status(pin.Cid)
			maps.DeleteFunc(info.PeerMap, func(_ string, s api.PinInfoShort) bool { return !s.Status.Match(q.Filter) })
			if len(info.PeerMap) > 0 && !yield(info, nil) {
				return
			}
		}
	}
}

func (f *fakeCluster) Recover(ctx context.Context, c api.Cid, local bool) (api.GlobalPinInfo, error) {
	return f.Status(ctx, c, local)
}

func (f *fakeCluster) RecoverAll(ctx context.Context, _ bool) iter.Seq2[api.GlobalPinInfo, error] {
	return f.StatusAll(ctx, api.StatusQuery{Filter: api.StatusError})
}

func (f *fakeCluster) RepoGC(_ context.Context, local bool) (api.GlobalRepoGC, error) {
	gone, err := api.DecodeCid("bafkreigaknpexyvxt76zgkitavbwx6ejgfheup5oybpm77f3pxzrvwpfdi")
	if err != nil {
		return api.GlobalRepoGC{}, err
	}
	gc := api.GlobalRepoGC{PeerMap: map[string]api.RepoGC{
		fakePeers[0].id: {Peer: mustPeer(fakePeers[0].id), PeerName: "peer0", Keys: []api.RepoGCKey{{Key: gone}, {Error: "a block cannot be read"}}}}}
	if !local {
		gc.PeerMap[fakePeers[1].id] = api.RepoGC{Peer: mustPeer(fakePeers[1].id), PeerName: "peer1", Error: "its repository is locked"}
	}
	return gc, nil
}

// Add gives every file the CID of its bytes as one raw block, and a folder
// that of its name.
func (f *fakeCluster) Add(ctx context.Context, body *multipart.Reader, params api.AddParams, emit func(api.AddedOutput) error) error {
	root, err := f.addParts(body, emit)
	if err != nil {
		return err
	}
	if !root.Defined() {
		return api.Errorf(api.CodeInvalid, "the upload has no file")
	}
	if params.Wrap {
		root = sumOf([]byte("wrapped"))
		if err := emit(api.AddedOutput{Cid: root}); err != nil {
			return err
		}
	}
	if params.NoPin {
		return nil
	}
	_, err = f.Pin(ctx, api.PinRequest{Cid: root, Options: params.PinOptions})
	return err
}

func (f *fakeCluster) addParts(body *multipart.Reader, emit func(api.AddedOutput) error) (root api.Cid, err error) {
	var folder *api.AddedOutput
	for {
		part, err := body.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return api.Cid{}, api.Errorf(api.CodeInvalid, "read the upload: %w", err)
		}
		name, err := url.QueryUnescape(part.FileName())
		if err != nil {
			return api.Cid{}, err
		}
		if part.Header.Get("Content-Type") == "application/x-directory" {
			if folder == nil {
				folder = &api.AddedOutput{Name: name, Cid: sumOf([]byte(name))}
			}
			continue
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return api.Cid{}, api.Errorf(api.CodeInvalid, "read the upload: %w", err)
		}
		root = sumOf(data)
		if err := emit(api.AddedOutput{Name: name, Cid: root, Size: uint64(len(data))}); err != nil {
			return api.Cid{}, err
		}
	}
	if folder != nil {
		root = folder.Cid
		return root, emit(*folder)
	}
	return root, nil
}

func sumOf(data []byte) api.Cid {
	hash, err := multihash.Sum(data, multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return api.NewCid(cid.NewCidV1(cid.Raw, hash))
}

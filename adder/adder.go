package adder

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"runtime/debug"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"holdfast/api"
)

// Destination takes the blocks of one add on behalf of one peer. It is used by
// one goroutine at a time.
type Destination interface {
	// Put hands over a batch, which nobody changes afterwards; an empty one says
	// that the add is alive. Its error may be that of an earlier batch; after
	// one, only Close may be called.
	Put(ctx context.Context, batch []api.Block) error
	// Close flushes and lets go of the destination. It returns nil only when
	// every block that was put is verified and on the peer's disk.
	Close() error
}

// Cluster is what an add asks of the cluster.
type Cluster interface {
	// Allocate says which peers shall hold a pin with these options.
	Allocate(ctx context.Context, options api.PinOptions) (api.Placement, error)
	Pin(ctx context.Context, request api.PinRequest) (api.PinResult, error)
}

// Deps are what an Adder works with.
type Deps struct {
	Self    peer.ID
	Cluster Cluster
	// Open begins to send blocks to a peer, which may be Self. The destination
	// gives up when ctx ends.
	Open func(ctx context.Context, to peer.ID) (Destination, error)
	// Lease holds garbage collection off on this peer until release is called.
	Lease  func(ctx context.Context) (release func(), err error)
	Logger *slog.Logger // nil: silent
}

// Config bounds an add. The zero value takes the defaults.
type Config struct {
	BatchBytes   int           // bytes of one batch to a destination; default 1 MiB
	QueueBatches int           // batches that wait for a slow destination; default 4
	StallTimeout time.Duration // a destination that takes no batch for so long is dropped; default 1 minute
	// MaxMemory is how many bytes all adds together may take for what they
	// remember and for the batches on their way; default a quarter of the memory
	// limit of the process (GOMEMLIMIT), at most 1 GiB.
	MaxMemory int64
}

// MaxBlockBytes is the largest block that bitswap carries, and so the largest
// that is stored.
const MaxBlockBytes = 2 << 20

// pinsAtOnce is how many roots of one add are proposed together.
const pinsAtOnce = 64

// Adder adds. It is safe for concurrent use and keeps nothing between adds.
type Adder struct {
	deps   Deps
	config Config
	budget *budget
}

// New makes an Adder.
func New(deps Deps, config Config) *Adder {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if config.BatchBytes <= 0 {
		config.BatchBytes = 1 << 20
	}
	if config.QueueBatches <= 0 {
		config.QueueBatches = 4
	}
	if config.StallTimeout <= 0 {
		config.StallTimeout = time.Minute
	}
	if config.MaxMemory <= 0 {
		config.MaxMemory = defaultMemory(debug.SetMemoryLimit(-1)) // changes nothing
	}
	return &Adder{deps: deps, config: config, budget: &budget{limit: config.MaxMemory}}
}

// Add reads an upload, writes its blocks where the cluster says, and pins its
// roots. Outputs come in the order of the incumbent: files as they are read,
// directories bottom-up, roots last. A root's output comes only after its pin
// is committed, so whoever sees it can rely on it. emit is called by one
// goroutine at a time and not after Add returned; its error ends the add.
//
// When Add fails, nothing is pinned, unless the message names what is. Errors:
// invalid (parameters, upload, CAR), too_large, no_space, unavailable,
// not_enough_peers and whatever the cluster answers to the pin.
func (a *Adder) Add(ctx context.Context, upload *multipart.Reader, params api.AddParams, emit func(api.AddedOutput) error) error {
	plan, err := newPlan(params)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !params.OnlyHash {
		release, err := a.deps.Lease(ctx)
		if err != nil {
			return api.Errorf(api.CodeOf(err), "hold off garbage collection: %w", err)
		}
		defer release()
	}
	memory := &share{budget: a.budget}
	defer memory.close()
	if !params.OnlyHash { // one batch that fills, and one that is being put; most adds need no more
		if err := memory.take(2 * a.config.BatchBytes); err != nil {
			return err
		}
	}
	s := a.newSink(plan, memory)
	defer func() {
		cancel()
		s.abandon()
	}()
	roots, err := a.read(ctx, upload, plan, s, memory, emit)
	if err != nil {
		return uploadError(ctx, err)
	}
	holders, err := s.finish(ctx)
	if err != nil {
		return err
	}
	if err := a.pin(ctx, plan, s.placement, holders, roots); err != nil {
		return err
	}
	for _, root := range roots {
		if err := emit(root); err != nil {
			return err
		}
	}
	return nil
}

// read makes blocks of the upload and returns the outputs of its roots.
func (a *Adder) read(ctx context.Context, upload *multipart.Reader, plan plan, s *sink, memory *share, emit func(api.AddedOutput) error) ([]api.AddedOutput, error) {
	put := func(c cid.Cid, data []byte) error { return s.put(ctx, c, data) }
	if plan.car {
		im := carImporter{plan: plan, put: put, emit: emit, memory: memory, closure: newClosure(memory), byCid: make(map[cid.Cid]int)}
		return im.run(upload)
	}
	im := importer{plan: plan, put: put, emit: emit, memory: memory}
	return im.run(ctx, upload)
}

// pin proposes every root and notes in roots who holds it.
func (a *Adder) pin(ctx context.Context, plan plan, placement api.Placement, holders []peer.ID, roots []api.AddedOutput) error {
	if plan.params.OnlyHash {
		return nil
	}
	allocations := holders
	switch {
	case placement.Everywhere:
		allocations = nil
	case plan.params.Local:
		allocations = placement.Peers
	}
	if plan.params.NoPin {
		for i := range roots {
			roots[i].Allocations = holders
		}
		return nil
	}
	options := plan.params.PinOptions
	options.PinUpdate = api.Cid{}
	pinned := make(map[cid.Cid]*api.PinResult, len(roots))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pinsAtOnce)
	for _, root := range roots {
		if pinned[root.Cid.Cid] != nil {
			continue
		}
		result := new(api.PinResult)
		pinned[root.Cid.Cid] = result
		group.Go(func() error {
			request := api.PinRequest{Cid: root.Cid, Options: options, Allocations: allocations}
			if plan.params.RequestID != "" {
				// One add can have many roots, and each is a request of its own.
				request.RequestID = plan.params.RequestID + "/" + root.Cid.String()
			}
			answer, err := a.deps.Cluster.Pin(ctx, request)
			if err != nil {
				return api.Errorf(api.CodeOf(err), "pin %s: %w", root.Cid, err)
			}
			*result = answer
			return nil
		})
	}
	err := group.Wait()
	if err != nil && len(pinned) > 1 {
		return somePinned(err, pinned)
	}
	if err != nil {
		return err
	}
	for i := range roots {
		roots[i].Allocations = pinned[roots[i].Cid.Cid].Pin.Allocations
	}
	return nil
}

// somePinned adds to the error of one of several roots which others stand.
func somePinned(err error, pinned map[cid.Cid]*api.PinResult) error {
	count := 0
	var example api.Cid
	for _, result := range pinned {
		if result.Pin.Cid.Defined() {
			count, example = count+1, result.Pin.Cid
		}
	}
	if count == 0 {
		return err
	}
	return api.Errorf(api.CodeOf(err), "%w (%d of %d roots are pinned, %s among them; adding again pins the rest)", err, count, len(pinned), example)
}

// uploadError gives an error that comes from reading the upload its code. Those
// of destinations and of the cluster have theirs.
func uploadError(ctx context.Context, err error) error {
	var coded *api.Error
	if errors.As(err, &coded) {
		return err
	}
	if ctx.Err() != nil {
		return api.Errorf(api.CodeUnavailable, "the add was given up: %w", context.Cause(ctx))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return api.Errorf(api.CodeInvalid, "the upload ended early: %w", err)
	}
	return api.Errorf(api.CodeInvalid, "read the upload: %w", err)
}

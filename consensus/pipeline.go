package consensus

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// pipelinePatience is how long a pipeline may take to accept a message. A
// follower has the transport's timeout for each answer, which is less.
const pipelinePatience = 5 * time.Second

// pipelines closes pipelines that are stuck. Raft stops taking the answers of a
// pipeline when one of them shows a newer term, while its sender may be waiting
// for room in the same pipeline, and that comes only when answers are taken: a
// leader that was deposed kept the goroutine and the connection for ever, and
// its shutdown waited for them.
type pipelines struct {
	mu     sync.Mutex
	closed bool
	open   map[*patientPipeline]struct{}
}

func newPipelines() *pipelines { return &pipelines{open: map[*patientPipeline]struct{}{}} }

// add takes charge of a new pipeline.
func (p *pipelines) add(inner raft.AppendPipeline, err error) (raft.AppendPipeline, error) {
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = inner.Close() // what matters is that it is gone
		return nil, raft.ErrTransportShutdown
	}
	patient := &patientPipeline{AppendPipeline: inner, all: p}
	p.open[patient] = struct{}{}
	return patient, nil
}

// close closes all pipelines, and each that is still to come.
func (p *pipelines) close() {
	p.mu.Lock()
	open := p.open
	p.open, p.closed = map[*patientPipeline]struct{}{}, true
	p.mu.Unlock()
	for pipeline := range open {
		_ = pipeline.AppendPipeline.Close() // their connections are closed with the transport
	}
}

// patientPipeline is a pipeline that ends when it takes no message any more.
type patientPipeline struct {
	raft.AppendPipeline
	all *pipelines
}

// AppendEntries sends a message, or fails after pipelinePatience.
func (p *patientPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	timer := time.AfterFunc(pipelinePatience, func() { _ = p.Close() }) // AppendEntries says that it is closed
	defer timer.Stop()
	return p.AppendPipeline.AppendEntries(args, resp)
}

// Close ends the pipeline; it may be repeated.
func (p *patientPipeline) Close() error {
	p.all.mu.Lock()
	delete(p.all.open, p)
	p.all.mu.Unlock()
	return p.AppendPipeline.Close()
}

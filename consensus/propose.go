package consensus

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"holdfast/api"
)

// proposal is one command, or several, on their way into one entry of the log;
// a barrier has none.
type proposal struct {
	commands [][]byte
	size     int          // bytes of the commands
	state    atomic.Int32 // 0: waiting, then taken or withdrawn
	done     chan outcome // holds one
}

func newProposal(commands ...[]byte) *proposal {
	p := &proposal{commands: commands, done: make(chan outcome, 1)}
	for _, command := range commands {
		p.size += len(command)
	}
	return p
}

const (
	proposalTaken     = 1
	proposalWithdrawn = 2
)

type outcome struct {
	index   uint64
	results []any // one for each command
	err     error
}

// take claims a proposal for an entry; false when its caller has gone.
func (p *proposal) take() bool { return p.state.CompareAndSwap(0, proposalTaken) }

// withdraw takes a proposal back; false when it is part of an entry already.
func (p *proposal) withdraw() bool { return p.state.CompareAndSwap(0, proposalWithdrawn) }

// Propose logs a command. It returns the index of its entry and the machine's
// result once a majority has the entry on disk and this peer has applied it
// (INV-ACK).
//
// Errors: no_leader and unavailable, nothing was logged and nothing will be;
// unknown_outcome, the command may or may not take effect; too_large.
// It blocks while more than 4,096 proposals wait.
func (l *Log) Propose(ctx context.Context, command []byte) (index uint64, result any, err error) {
	if len(command) > l.config.MaxBatchBytes {
		return 0, nil, api.Errorf(api.CodeTooLarge, "the command has %d bytes; at most %d fit into the log", len(command), l.config.MaxBatchBytes)
	}
	out := l.submit(ctx, newProposal(command))
	if out.err != nil {
		return 0, nil, out.err
	}
	return out.index, out.results[0], nil
}

// ProposeAll logs commands in as few entries as they fit into, in their order
// and several entries at a time, and returns the machine's results in the same
// order. An error, as of Propose, says that some of them have no result: any
// of them may or may not take effect. Commands of others may come between.
func (l *Log) ProposeAll(ctx context.Context, commands [][]byte) ([]any, error) {
	proposals, err := l.cut(commands)
	if err != nil {
		return nil, err
	}
	for i, p := range proposals {
		if err := l.enqueue(ctx, p); err != nil {
			if i > 0 {
				err = api.Errorf(api.CodeUnknownOutcome, "some of the commands were logged, others were not: %w", err)
			}
			return nil, err
		}
	}
	results := make([]any, 0, len(commands))
	for i, p := range proposals {
		out := l.await(ctx, p)
		if out.err != nil {
			if len(proposals) > 1 {
				out.err = api.Errorf(api.CodeUnknownOutcome, "entry %d of %d: %w", i+1, len(proposals), out.err)
			}
			return nil, out.err
		}
		results = append(results, out.results...)
	}
	return results, nil
}

// cut makes proposals of commands, each as large as an entry may be.
func (l *Log) cut(commands [][]byte) ([]*proposal, error) {
	var out []*proposal
	start, size := 0, 0
	for i, command := range commands {
		if len(command) > l.config.MaxBatchBytes {
			return nil, api.Errorf(api.CodeTooLarge, "the command has %d bytes; at most %d fit into the log", len(command), l.config.MaxBatchBytes)
		}
		if size+len(command) > l.config.MaxBatchBytes || i-start == l.config.MaxBatchCommands {
			out = append(out, newProposal(commands[start:i]...))
			start, size = i, 0
		}
		size += len(command)
	}
	return append(out, newProposal(commands[start:]...)), nil
}

// ReadIndex returns an index that this peer's machine must contain for a read
// to see every write that was acknowledged before the call, on any peer
// (INV-LINEAR). Only the leader knows it; elsewhere the error is no_leader.
//
// It commits an entry without commands, which shares its fsync with whatever
// is being proposed. raft.VerifyLeader would be cheaper, but counts the voices
// of learners: a leader with enough of them would pass when the voters have
// long elected another.
func (l *Log) ReadIndex(ctx context.Context) (uint64, error) {
	out := l.submit(ctx, newProposal())
	return out.index, out.err
}

func (l *Log) submit(ctx context.Context, p *proposal) outcome {
	if err := l.enqueue(ctx, p); err != nil {
		return outcome{err: err}
	}
	return l.await(ctx, p)
}

// enqueue gives a proposal to the batcher; after an error it is not there.
func (l *Log) enqueue(ctx context.Context, p *proposal) error {
	if !l.elected() {
		return l.noLeader()
	}
	select {
	case l.queue <- p:
		return nil
	case <-l.stopping:
		return l.noLeader()
	case <-ctx.Done():
		return api.Errorf(api.CodeUnavailable, "%d proposals are waiting, and nothing was logged: %w", queueLength, context.Cause(ctx))
	}
}

// await returns what came of a proposal that was enqueued.
func (l *Log) await(ctx context.Context, p *proposal) outcome {
	select {
	case out := <-p.done:
		return out
	case <-l.done:
		if p.withdraw() {
			return outcome{err: l.noLeader()}
		}
		return <-p.done // settled before Run ended
	case <-ctx.Done():
		if p.withdraw() {
			return outcome{err: api.Errorf(api.CodeUnavailable, "waiting for the log ended, and nothing was logged: %w", context.Cause(ctx))}
		}
		return outcome{err: api.Errorf(api.CodeUnknownOutcome, "waiting for the commit ended, the change may yet take effect: %w", context.Cause(ctx))}
	}
}

// runBatcher makes entries of what is proposed: each takes what waits at that
// instant, so that an idle cluster waits for nothing and a busy one pays one
// fsync for many commands.
func (l *Log) runBatcher(r *raft.Raft) {
	defer l.refuseQueue()
	var next *proposal // did not fit into the last entry
	for {
		if next == nil {
			select {
			case next = <-l.queue:
			case <-l.stopping:
				return
			}
		}
		select {
		case l.slots <- struct{}{}:
		case <-l.stopping:
			l.refuse(next)
			return
		}
		var batch []*proposal
		batch, next = l.gather(next)
		if len(batch) == 0 {
			<-l.slots
			continue
		}
		l.dispatch(r, batch)
	}
}

// gather returns a batch that begins with first, and the proposal that no
// longer fitted, if any.
func (l *Log) gather(first *proposal) (batch []*proposal, rest *proposal) {
	size, count := 0, 0
	for p := first; ; {
		if len(batch) > 0 && (size+p.size > l.config.MaxBatchBytes || count+len(p.commands) > l.config.MaxBatchCommands) {
			return batch, p
		}
		if p.take() {
			batch = append(batch, p)
			size += p.size
			count += max(1, len(p.commands))
		}
		if count >= l.config.MaxBatchCommands {
			return batch, nil
		}
		select {
		case p = <-l.queue:
		default:
			return batch, nil
		}
	}
}

// dispatch hands an entry to raft, and returns when raft has taken it.
func (l *Log) dispatch(r *raft.Raft, batch []*proposal) {
	var commands [][]byte
	for _, p := range batch {
		commands = append(commands, p.commands...)
	}
	future := r.Apply(encodeEntry(commands), 0)
	l.inFlight.add()
	go func() {
		defer l.inFlight.done()
		l.settle(batch, future)
		<-l.slots
	}()
}

// settle waits for what came of an entry, and tells the callers.
func (l *Log) settle(batch []*proposal, future raft.ApplyFuture) {
	err := future.Error()
	var answer applied
	if err == nil {
		answer, _ = future.Response().(applied)
		if err = answer.err; err != nil {
			err = api.Errorf(api.CodeUnknownOutcome, "the entry was committed, but this peer could not apply it: %w", err)
		}
	} else {
		err = l.translate(err)
	}
	for _, p := range batch {
		out := outcome{err: err}
		if err == nil {
			out.index = future.Index()
			n := len(p.commands)
			out.results, answer.results = answer.results[:n:n], answer.results[n:]
		}
		p.done <- out
	}
}

// translate gives an error of raft its code. Only these are answered before
// raft appends to its log: a follower's or candidate's refusal (raft answers
// with ErrNotLeader from no other state, but for a leader that has just
// removed itself and appends no more), a leader's that is handing over, and
// the timeout at the door. ErrRaftShutdown is not among them: raft also gives
// it for committed entries that it no longer applies. The error of a failed
// write is not either, for part of it may have reached the disk.
func (l *Log) translate(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return l.noLeader()
	default:
		return api.Errorf(api.CodeUnknownOutcome, "the leader was lost in mid-commit, the change may yet take effect: %w", err)
	}
}

func (l *Log) refuse(p *proposal) {
	if p.take() {
		p.done <- outcome{err: l.noLeader()}
	}
}

// refuseQueue answers those who came too late.
func (l *Log) refuseQueue() {
	for {
		select {
		case p := <-l.queue:
			l.refuse(p)
		default:
			return
		}
	}
}

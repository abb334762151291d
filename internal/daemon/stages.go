package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

// stages are the running parts of a peer, in the order of their start. They
// are stopped in the reverse order, each after all that depend on it are gone.
type stages struct {
	logger  *slog.Logger
	running []*stage
	failed  chan error
}

type stage struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// stopTimeout is how long one part may take to stop before the others are
// stopped without it.
const stopTimeout = 20 * time.Second

func newStages(logger *slog.Logger) *stages {
	return &stages{logger: logger, failed: make(chan error, 1)}
}

// start runs a part until stop. A part that ends before is a failure of the
// whole peer.
func (s *stages) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	st := &stage{name: name, cancel: cancel, done: make(chan struct{})}
	s.running = append(s.running, st)
	go func() {
		defer close(st.done)
		err := run(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		st.err = fmt.Errorf("%s: %w", name, err)
		select {
		case s.failed <- st.err:
		default:
		}
	}()
}

// atStop registers a step of the shutdown that is no running part.
func (s *stages) atStop(name string, close func() error) {
	s.start(name, func(ctx context.Context) error {
		<-ctx.Done()
		return close()
	})
}

// stop ends all parts in reverse order and joins their errors.
func (s *stages) stop() error {
	var problems []error
	for i := len(s.running) - 1; i >= 0; i-- {
		st := s.running[i]
		begun := time.Now()
		st.cancel()
		select {
		case <-st.done:
			problems = append(problems, st.err)
		case <-time.After(stopTimeout):
			s.logger.Error("a part does not stop; this is a defect, please report it with what follows", "part", st.name, "goroutines", goroutines())
			problems = append(problems, fmt.Errorf("%s did not stop within %s", st.name, stopTimeout))
		}
		s.logger.Debug("stopped", "part", st.name, "took", time.Since(begun))
	}
	return errors.Join(problems...)
}

// goroutines tells what every goroutine does, up to 256 KiB of it.
func goroutines() string {
	buf := make([]byte, 256<<10)
	return string(buf[:runtime.Stack(buf, true)])
}

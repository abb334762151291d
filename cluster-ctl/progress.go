package main

import (
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

const progressInterval = 100 * time.Millisecond

// progress draws how much was sent, when there is a terminal to draw on.
type progress struct {
	mu  sync.Mutex
	bar *progressbar.ProgressBar // nil: draws nothing
}

func (a *adding) newProgress() *progress {
	if !a.terminal || a.quiet || a.quieter || a.json {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(a.total,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription("sent"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(progressInterval),
		progressbar.OptionClearOnFinish(),
	)}
}

// set tells how many bytes were read so far. A terminal that cannot be drawn on is no reason to fail.
func (p *progress) set(bytes int64) {
	if p.bar == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.bar.Set64(bytes)
}

// aside takes the bar away while something else is printed.
func (p *progress) aside(print func() error) error {
	if p.bar == nil {
		return print()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.bar.Clear()
	return print()
}

func (p *progress) close() {
	if p.bar == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.bar.Clear()
	_ = p.bar.Exit()
}

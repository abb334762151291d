package daemon

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// NewLogger makes the process's logger from its settings.
func NewLogger(level, format string, out io.Writer) *slog.Logger {
	return NewLeveledLogger(ParseLevel(level), format, out)
}

// ParseLevel reads a setting; what is none is info.
func ParseLevel(text string) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return slog.LevelInfo
	}
	return level
}

// NewLeveledLogger is NewLogger with a level that may change.
func NewLeveledLogger(level slog.Leveler, format string, out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// raftLogger takes raft's messages one level down and tells each only now and
// then. To the library a peer that cannot be reached is an error, told ten
// times a second; to an operator it is one event, and monitor tells it.
func raftLogger(logger *slog.Logger) *slog.Logger {
	return slog.New(quieter{logger.Handler(), &lastTold{at: map[string]time.Time{}}}).With("part", "raft")
}

const (
	step       = 4 // distance of two levels of slog
	toldAgain  = 30 * time.Second
	maxRemarks = 1000 // different messages that are remembered
)

type quieter struct {
	slog.Handler
	told *lastTold
}

// lastTold is when each message was last let through.
type lastTold struct {
	mu sync.Mutex
	at map[string]time.Time
}

// again says whether a message may be told now.
func (l *lastTold) again(message string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.at[message]; ok && now.Sub(last) < toldAgain {
		return false
	}
	if len(l.at) >= maxRemarks {
		clear(l.at)
	}
	l.at[message] = now
	return true
}

func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, level-step)
}

func (q quieter) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn && !q.told.again(record.Message, record.Time) {
		return nil
	}
	record.Level -= step
	return q.Handler.Handle(ctx, record)
}

func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{q.Handler.WithAttrs(attrs), q.told}
}

func (q quieter) WithGroup(name string) slog.Handler {
	return quieter{q.Handler.WithGroup(name), q.told}
}

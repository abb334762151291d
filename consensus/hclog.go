package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger gives raft's words to a slog.Logger.
type raftLogger struct {
	out  *slog.Logger
	name string
	args []any
}

var _ hclog.Logger = raftLogger{}

func (l raftLogger) Log(level hclog.Level, msg string, args ...any) {
	ctx := context.Background()
	if !l.out.Enabled(ctx, slogLevel(level)) {
		return
	}
	// Raft hands over lazily formatted values.
	for i, arg := range args {
		if format, ok := arg.(hclog.Format); ok && len(format) > 0 {
			if verb, ok := format[0].(string); ok {
				args[i] = fmt.Sprintf(verb, format[1:]...)
			}
		}
	}
	l.out.Log(ctx, slogLevel(level), msg, args...)
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace, hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

func (l raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l raftLogger) enabled(level slog.Level) bool {
	return l.out.Enabled(context.Background(), level)
}
func (l raftLogger) IsTrace() bool { return l.enabled(slog.LevelDebug) }
func (l raftLogger) IsDebug() bool { return l.enabled(slog.LevelDebug) }
func (l raftLogger) IsInfo() bool  { return l.enabled(slog.LevelInfo) }
func (l raftLogger) IsWarn() bool  { return l.enabled(slog.LevelWarn) }
func (l raftLogger) IsError() bool { return l.enabled(slog.LevelError) }

func (l raftLogger) ImpliedArgs() []any { return l.args }

func (l raftLogger) With(args ...any) hclog.Logger {
	return raftLogger{out: l.out.With(args...), name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...)}
}

func (l raftLogger) Name() string { return l.name }

func (l raftLogger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

func (l raftLogger) ResetNamed(name string) hclog.Logger {
	return raftLogger{out: l.out, name: name, args: l.args}
}

// SetLevel does nothing: the slog handler decides.
func (l raftLogger) SetLevel(hclog.Level) {}

func (l raftLogger) GetLevel() hclog.Level {
	switch {
	case l.IsDebug():
		return hclog.Debug
	case l.IsInfo():
		return hclog.Info
	case l.IsWarn():
		return hclog.Warn
	default:
		return hclog.Error
	}
}

func (l raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.out.Handler(), slog.LevelInfo)
}

func (l raftLogger) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(opts).Writer()
}

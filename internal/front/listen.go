package front

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// socketMode is what the files of unix sockets are made with, less the umask:
// 0600 with 0077, 0660 with 0007. To connect, a process must be able to write.
const socketMode = 0o660

// listen opens a listener on a multiaddr. A unix socket that a killed process
// has left is replaced; one that somebody listens on is busy.
func listen(text string) (net.Listener, error) {
	addr, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		return nil, err
	}
	network, at, err := manet.DialArgs(addr)
	if err != nil {
		return nil, err
	}
	switch network {
	case "unix":
		return ListenUnix(at, socketMode)
	case "tcp", "tcp4", "tcp6":
		return net.Listen(network, at)
	}
	return nil, errors.New("it is neither a TCP nor a unix address")
}

// ListenUnix makes a unix socket with a mode, less the umask.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode of the socket is that of its file from the first moment on, where
	// the system has it so (Linux); elsewhere it is set behind.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode.Perm())) })
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Perm()&^mode.Perm() != 0 {
		err = os.Chmod(path, info.Mode().Perm()&mode.Perm())
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody listens on any more, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.Dial("unix", path)
	if err == nil {
		return errors.Join(syscall.EADDRINUSE, c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("the socket that is there may be in use: %w", err)
	}
	return os.Remove(path)
}

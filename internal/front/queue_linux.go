package front

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// queued is how many bytes wait in the system for the other side to take them.
func queued(c net.Conn) (bytes int, ok bool) {
	holder, ok := c.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := holder.SyscallConn()
	if err != nil {
		return 0, false
	}
	var asked error
	err = raw.Control(func(fd uintptr) { bytes, asked = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return bytes, err == nil && asked == nil
}

package daemon

import (
	"net"
	"syscall"
)

// peerUser is the user whose process is at the other end of a unix socket.
func peerUser(c net.Conn) (uid uint32, known bool, err error) {
	holder, ok := c.(syscall.Conn)
	if !ok {
		return 0, false, nil
	}
	raw, err := holder.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var credentials *syscall.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		credentials, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, false, err
	}
	if asked != nil {
		return 0, false, asked
	}
	return credentials.Uid, true, nil
}

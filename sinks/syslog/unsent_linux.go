package syslog

import (
	"errors"
	"io"
	"net"
	"syscall"
	"unsafe"
)

// unsent is how many bytes that were written to a TCP connection the other side
// has not confirmed (tcp(7), SIOCOUTQ).
func unsent(c net.Conn) (int, error) {
	var n int32
	err := control(c, func(fd uintptr) error {
		const siocoutq = 0x5411 // the same number as TIOCOUTQ
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, siocoutq, uintptr(unsafe.Pointer(&n))); errno != 0 {
			return errno
		}
		return nil
	})
	return int(n), err
}

// closing reports, as an error, that the other side has closed the connection or
// reset it: what has arrived by now, whether or not it was read yet.
func closing(c net.Conn) error {
	return control(c, func(fd uintptr) error {
		code, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		if err == nil && code != 0 {
			return syscall.Errno(code)
		}
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
			return nil
		case err == nil && n == 0:
			return io.EOF
		}
		return err
	})
}

func control(c net.Conn, do func(fd uintptr) error) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(fd) }); err != nil {
		return err
	}
	return failed
}

package cdc

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limitUnanswered bounds how long what was sent may go without an acknowledgement: without it the kernel sends it again for a quarter
// of an hour.
func limitUnanswered(c syscall.RawConn, limit time.Duration) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}

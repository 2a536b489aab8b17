package cdc

import (
	"context"
	"net"
	"syscall"
	"time"
)

// A connection whose other end is gone without a word is noticed within half a minute: by nothing coming back for what we have sent,
// or, while we send nothing, for what the kernel asks.
const (
	unanswered = 15 * time.Second // until what we have sent, or the kernel has asked, is given up on
	idleFor    = 10 * time.Second // until the kernel asks
	askAgain   = 5 * time.Second
)

// Dial connects to a server.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: idleFor, Interval: askAgain, Count: int(unanswered / askAgain)},
		Control: func(network, _ string, c syscall.RawConn) error {
			if network == "unix" {
				return nil
			}
			return limitUnanswered(c, unanswered)
		},
	}
	return d.DialContext(ctx, network, address)
}

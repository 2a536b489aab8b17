//go:build !linux

package cdc

import (
	"syscall"
	"time"
)

// limitUnanswered is left to the system, which has its own limits.
func limitUnanswered(syscall.RawConn, time.Duration) error { return nil }

package audit

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Retention is for how long auditors want to find what was recorded: a year, and the month in which they ask.
const Retention = 13 * 30 * 24 * time.Hour

// Space is the disk space of a log and of what lies beside it.
type Space struct {
	Bytes    int64
	Free     int64 // on its file system
	Expected int64 // bytes when it holds 13 months, at its rate until now; 0: it is too young to say
}

// measureEvery is how often the space is looked at, which reads all folders.
const measureEvery = 10 * time.Minute

// measure looks at the space if it is time.
func (l *Log) measure(ctx context.Context, now time.Time) error {
	if now.Sub(l.measured) < measureEvery {
		return nil
	}
	l.measured = now
	var s Space
	err := filepath.WalkDir(l.options.Dir, func(_ string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return ignoreMissing(err)
		}
		info, err := f.Info()
		if err == nil {
			s.Bytes += info.Size()
		}
		return ignoreMissing(err)
	})
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(l.options.Dir, &disk); err != nil {
		return fmt.Errorf("audit log %s: free space: %w", l.options.Dir, err)
	}
	s.Free = int64(disk.Bavail) * int64(disk.Bsize)
	if l.began.IsZero() {
		first, err := l.first(ctx)
		if err != nil {
			return err
		}
		if first != nil {
			l.began = first.Time
		}
	}
	s.Expected = expected(s.Bytes, now.Sub(l.began), l.began.IsZero())
	l.mu.Lock()
	l.space = s
	l.mu.Unlock()
	return nil
}

// expected is what a log takes after [Retention] that has come to so many bytes in a time.
func expected(bytes int64, age time.Duration, unknown bool) int64 {
	if unknown || age < 24*time.Hour {
		return 0
	}
	return int64(float64(bytes) * max(1, float64(Retention)/float64(age)))
}

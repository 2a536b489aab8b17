package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-cdc/lockstep/audit/durable"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// copyFiles brings files that came with entries beside the log. What is there already is only marked as needed still.
func (l *Log) copyFiles() error {
	var done []string
	err := l.kept.EvidenceFiles(func(f evidence.File) error {
		done = append(done, f.Name)
		return keepFile(filepath.Join(l.options.Dir, f.Name), f.Content)
	})
	if err != nil || len(done) == 0 {
		return err
	}
	if err := l.kept.ForgetEvidenceFiles(done); err != nil {
		return err
	}
	return l.pruneTrees(time.Now())
}

func keepFile(path string, content []byte) error {
	now := time.Now()
	switch err := os.Chtimes(path, now, now); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("audit log: %w", err)
	case len(content) == 0: // somebody has taken it away
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	if err := durable.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

// pruneTrees takes away the trees that no coverage has named for long enough.
func (l *Log) pruneTrees(now time.Time) error {
	if now.Sub(l.pruned) < time.Hour {
		return nil
	}
	l.pruned = now
	dir := filepath.Join(l.options.Dir, evidence.TreesDir)
	list, err := os.ReadDir(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, f := range list {
		info, err := f.Info()
		if err == nil && now.Sub(info.ModTime()) > l.options.Trees {
			err = os.Remove(filepath.Join(dir, f.Name()))
		}
		if ignoreMissing(err) != nil {
			return fmt.Errorf("audit log: %w", err)
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

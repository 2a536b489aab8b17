package store

import "github.com/cockroachdb/pebble/v2/vfs"

// guard stops the process at the first write that the disk refuses. Pebble would panic in some places, in others try
// again for ever, also before it is open, and nowhere can it say which directory is meant.
type guard struct {
	vfs.FS
	refused func(error)
}

func (g *guard) check(err error) error {
	if err != nil {
		g.refused(err)
	}
	return err
}

func (g *guard) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return f, g.check(err)
	}
	return &guardedFile{f, g}, nil
}

// Create implements [vfs.FS].
func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(g.FS.Create(name, c))
}

// ReuseForWrite implements [vfs.FS].
func (g *guard) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(g.FS.ReuseForWrite(old, name, c))
}

// OpenDir implements [vfs.FS]. Directories are opened to be synced.
func (g *guard) OpenDir(name string) (vfs.File, error) { return g.file(g.FS.OpenDir(name)) }

// Unwrap implements [vfs.FS].
func (g *guard) Unwrap() vfs.FS { return g.FS }

type guardedFile struct {
	vfs.File
	guard *guard
}

func (f *guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.guard.check(err)
}

func (f *guardedFile) Sync() error     { return f.guard.check(f.File.Sync()) }
func (f *guardedFile) SyncData() error { return f.guard.check(f.File.SyncData()) }

func (f *guardedFile) SyncTo(length int64) (bool, error) {
	whole, err := f.File.SyncTo(length)
	return whole, f.guard.check(err)
}

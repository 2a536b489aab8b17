package main

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// writeArchive packs a program and what comes with it below a folder. Of the files only the contents count: in the archive they are in
// the order of their names, belong to nobody and are of one time.
func writeArchive(path, folder, program string, docs map[string]string, at time.Time) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	if err := add(t, folder+"/lockstep", program, 0o755, at); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		if err := add(t, folder+"/"+name, docs[name], 0o644, at); err != nil {
			return err
		}
	}
	for _, w := range []io.Closer{t, z, out} {
		if err := w.Close(); err != nil {
			return err
		}
	}
	return nil
}

func add(t *tar.Writer, name, file string, mode int64, at time.Time) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: at, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = t.Write(data)
	return err
}

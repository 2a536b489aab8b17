package mysql

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"io"
	"strings"
	"testing"
)

// deflated compresses as MariaDB does; without a header of zlib, if wrap is not set.
func deflated(t testing.TB, first byte, data []byte, wrap bool) []byte {
	t.Helper()
	out := bytes.NewBuffer([]byte{first | 2, byte(len(data) >> 8), byte(len(data))})
	var w io.WriteCloser = zlib.NewWriter(out)
	if !wrap {
		var err error
		if w, err = flate.NewWriter(out, flate.BestCompression); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCompressedValuesAreDecompressed(t *testing.T) {
	long := bytes.Repeat([]byte("lockstep "), 1000)
	for name, tt := range map[string]struct{ stored, want []byte }{
		"empty":          {nil, nil},
		"left as it was": {[]byte("\x00short"), []byte("short")},
		"with header":    {deflated(t, 0x80, long, true), long},
		"without header": {deflated(t, 0x88, long, false), long},
	} {
		for range 3 { // the later ones with the buffers of the first
			var got []byte
			if err := inflateValue(tt.stored, func(v []byte) error { got = bytes.Clone(v); return nil }); err != nil || !bytes.Equal(got, tt.want) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	}
}

func TestDamagedCompressedDataAreAnError(t *testing.T) {
	whole := deflated(t, 0x80, []byte(strings.Repeat("lockstep ", 100)), true)
	damaged := func(at int, to byte) []byte {
		b := bytes.Clone(whole)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":            {0x80},
		"no length":          {0x82, 1},
		"shorter than told":  damaged(1, whole[1]+1),
		"longer than told":   damaged(2, whole[2]-1),
		"another checksum":   damaged(len(whole)-1, ^whole[len(whole)-1]),
		"cut":                whole[:len(whole)-6],
		"no zlib":            damaged(3, 0),
		"another method":     damaged(0, 0x92),
		"more than can be":   {0x84, 0x40, 0, 0, 0, 0x78, 0x9c, 1},
		"more than anything": {0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x78, 0x9c},
	} {
		if err := inflateValue(b, func([]byte) error { return nil }); err == nil {
			t.Errorf("%s: a value was made", name)
		}
		if rows, err := inflateRows(b); err == nil {
			t.Errorf("%s: %d bytes of rows", name, len(rows))
		}
	}
	if _, err := inflateRows([]byte("\x00abc")); err == nil {
		t.Error("rows that are not compressed were taken for such")
	}
}

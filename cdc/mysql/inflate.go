package mysql

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"sync"
)

// MariaDB compresses rows of an event (log_bin_compress), and values of COMPRESSED columns, in much the same way:
//
//	rows    0x80 | algorithm << 4 | n, n bytes of the length BE, zlib             (binlog_buf_compress)
//	value   0x80 | 8 if there is no zlib header | n, n bytes of the length BE, deflate; or 0 and the value itself
//
// The only algorithm is zlib, 0. Nothing is longer than largestInflated, and no more memory is used than the data can
// fill: deflate makes at most 1032 bytes of one.
const (
	largestInflated = 1 << 30
	deflateRatio    = 1032
)

var errInflate = errors.New("holds data that cannot be decompressed")

// inflateRows decompresses the rows of an event.
func inflateRows(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0]&0x80 == 0 {
		return nil, fmt.Errorf("its compressed part %w", errInflate)
	}
	if algorithm := b[0] >> 4 & 7; algorithm != 0 {
		return nil, fmt.Errorf("its rows are compressed by algorithm %d, which lockstep does not know", algorithm)
	}
	rows, err := inflate(nil, b, true)
	if err != nil {
		return nil, fmt.Errorf("its compressed part %w", err)
	}
	return rows, nil
}

// inflateValue decompresses a value of a COMPRESSED column and passes it on.
func inflateValue(v []byte, use func(v []byte) error) error {
	switch {
	case len(v) == 0:
		return use(v)
	case v[0] == 0:
		return use(v[1:])
	case v[0]&0xf0 != 0x80:
		return errInflate
	}
	buffer := buffers.Get().(*[]byte)
	out, err := inflate((*buffer)[:0], v, v[0]&8 == 0)
	if err == nil {
		err = use(out)
	}
	if cap(out) <= keptInflated {
		*buffer = out
		buffers.Put(buffer)
	}
	return err
}

// keptInflated is the size up to which a buffer is kept for the next value.
const keptInflated = 1 << 20

var (
	buffers  = sync.Pool{New: func() any { return new([]byte) }}
	wrapped  sync.Pool // of readers of zlib
	unheaded sync.Pool // of readers of deflate
)

// inflate appends what a header of length and the compressed data after it hold.
func inflate(dst, b []byte, header bool) ([]byte, error) {
	n := int(b[0] & 7)
	if len(b) < 1+n {
		return dst, errInflate
	}
	length := uint64(0)
	for _, c := range b[1 : 1+n] {
		length = length<<8 | uint64(c)
	}
	b = b[1+n:]
	if length > largestInflated || length > uint64(len(b))*deflateRatio {
		return dst, errInflate
	}
	pool, reader, err := inflater(b, header)
	if err != nil {
		return dst, errInflate
	}
	start := len(dst)
	dst = append(dst, make([]byte, length)...)
	_, err = io.ReadFull(reader, dst[start:])
	var more [1]byte
	if n, end := reader.Read(more[:]); err != nil || n != 0 || end != io.EOF { // the checksum is looked at with the end
		return dst[:start], errInflate
	}
	pool.Put(reader)
	return dst, nil
}

// inflater takes a reader from the pool, or makes one. Its memory is worth keeping.
func inflater(b []byte, header bool) (*sync.Pool, io.ReadCloser, error) {
	source := bytes.NewReader(b)
	if !header {
		if r, ok := unheaded.Get().(io.ReadCloser); ok {
			return &unheaded, r, r.(flate.Resetter).Reset(source, nil)
		}
		return &unheaded, flate.NewReader(source), nil
	}
	if r, ok := wrapped.Get().(io.ReadCloser); ok {
		return &wrapped, r, r.(zlib.Resetter).Reset(source, nil)
	}
	r, err := zlib.NewReader(source)
	return &wrapped, r, err
}

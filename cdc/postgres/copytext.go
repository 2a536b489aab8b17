package postgres

import (
	"bytes"
	"errors"
	"fmt"
)

var errCopy = errors.New("COPY: a row that is not in its text format")

// copyReader takes the text format of COPY TO apart: a line for each row, tabs between fields, \N for NULL, and escapes
// (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"). It is the io.Writer that the driver copies to.
type copyReader struct {
	columns int
	row     func(fields [][]byte) error // nil is NULL; good until it returns

	pending []byte // the start of a line whose end did not come yet
	fields  [][]byte
	text    []byte // of fields with escapes
}

// Write takes some of the stream, which may end anywhere.
func (c *copyReader) Write(b []byte) (int, error) {
	n := len(b)
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			c.pending = append(c.pending, b...)
			return n, nil
		}
		line := b[:end]
		b = b[end+1:]
		if len(c.pending) > 0 {
			c.pending = append(c.pending, line...)
			line = c.pending
		}
		err := c.line(line)
		c.pending = c.pending[:0]
		if err != nil {
			return 0, err
		}
	}
}

// close tells whether the stream ended with a row.
func (c *copyReader) close() error {
	if len(c.pending) > 0 {
		return fmt.Errorf("%w: it has no end", errCopy)
	}
	return nil
}

func (c *copyReader) line(line []byte) error {
	c.fields, c.text = c.fields[:0], c.text[:0]
	if need := len(line); cap(c.text) < need {
		c.text = make([]byte, 0, need) // unescaping never adds, so fields that point into it stay where they are
	}
	for {
		field, rest, more := bytes.Cut(line, []byte{'\t'})
		text, err := c.unescape(field)
		if err != nil {
			return err
		}
		c.fields = append(c.fields, text)
		if !more {
			break
		}
		line = rest
	}
	if len(c.fields) != c.columns {
		return fmt.Errorf("%w: %d fields instead of %d", errCopy, len(c.fields), c.columns)
	}
	return c.row(c.fields)
}

// unescape returns the text of a field, or nil for NULL.
func (c *copyReader) unescape(field []byte) ([]byte, error) {
	escape := bytes.IndexByte(field, '\\')
	if escape < 0 {
		return field[:len(field):len(field)], nil
	}
	if string(field) == `\N` {
		return nil, nil
	}
	start := len(c.text)
	for escape >= 0 {
		if escape+1 == len(field) {
			return nil, fmt.Errorf("%w: a field ends in an escape", errCopy)
		}
		plain, ok := unescaped(field[escape+1])
		if !ok {
			return nil, fmt.Errorf("%w: escape %q", errCopy, field[escape:escape+2])
		}
		c.text = append(append(c.text, field[:escape]...), plain)
		field = field[escape+2:]
		escape = bytes.IndexByte(field, '\\')
	}
	c.text = append(c.text, field...)
	return c.text[start:len(c.text):len(c.text)], nil
}

// unescaped knows the escapes that the server writes.
func unescaped(b byte) (byte, bool) {
	switch b {
	case '\\':
		return '\\', true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'v':
		return '\v', true
	}
	return 0, false
}

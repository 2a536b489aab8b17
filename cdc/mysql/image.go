package mysql

import (
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/digest"
)

// rowsHeader is a rows event but for its rows
// (https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Rows__event.html):
//
//	table id 6 | flags 2 | version 2 only: length 2 of what follows with itself, ... | columns, packed |
//	bitmap of the columns that are present | of an update: the same for the rows after it | rows
//
// A row is a bitmap of the columns that are NULL, of those present, and the values of the others one after the other.
type rowsHeader struct {
	tableID      uint64
	flags        uint16
	columns      int
	present      []byte
	presentAfter []byte // of an update; else nil
	data         []byte // rows; of an update the one before and the one after in turn
}

var (
	// errPartialImage is about rows that are logged without some of their columns. They do not become NULL.
	errPartialImage = errors.New("its rows are logged without all of their columns; set binlog_row_image=FULL in all sessions that write")
	// errPartialJSON is about updates that are logged as what changes within a JSON document.
	errPartialJSON = errors.New("its rows are logged as changes within JSON documents; set binlog_row_value_options='' in all sessions that write")
)

// parseRows takes the body of a rows event apart. The result shares the body's memory, but for rows that MariaDB
// compressed (log_bin_compress).
func parseRows(eventType byte, body []byte, tableIDSize int) (rowsHeader, error) {
	layout, ok := rowsLayouts[eventKind(eventType)]
	if !ok {
		return rowsHeader{}, fmt.Errorf("event of type %d holds no rows that lockstep can read", eventType)
	}
	if layout.partial {
		return rowsHeader{}, errPartialJSON
	}
	c := cursor{rest: body}
	r := rowsHeader{tableID: littleEndian(c.take(tableIDSize)), flags: c.uint16()}
	if layout.extra {
		c.take(int(c.uint16()) - 2)
	}
	if n := c.packed(); n <= mostColumns {
		r.columns = int(n)
	} else {
		c.short = true
	}
	r.present = c.take((r.columns + 7) / 8)
	if layout.update {
		r.presentAfter = c.take((r.columns + 7) / 8)
	}
	if c.short {
		return rowsHeader{}, fmt.Errorf("rows event of type %d: %w", eventType, errShort)
	}
	r.data = c.rest
	if layout.compressed {
		var err error
		if r.data, err = inflateRows(c.rest); err != nil {
			return rowsHeader{}, fmt.Errorf("rows event of type %d: %w", eventType, err)
		}
	}
	return r, nil
}

// rowsLayout says how a type of rows events differs from others.
type rowsLayout struct{ update, extra, compressed, partial bool }

// MariaDB counts its compressed events of version 2 from 169 on; no server writes them.
var rowsLayouts = map[eventKind]rowsLayout{
	replication.WRITE_ROWS_EVENTv1:                      {},
	replication.UPDATE_ROWS_EVENTv1:                     {update: true},
	replication.DELETE_ROWS_EVENTv1:                     {},
	replication.WRITE_ROWS_EVENTv2:                      {extra: true},
	replication.UPDATE_ROWS_EVENTv2:                     {extra: true, update: true},
	replication.DELETE_ROWS_EVENTv2:                     {extra: true},
	replication.PARTIAL_UPDATE_ROWS_EVENT:               {extra: true, update: true, partial: true},
	replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:  {compressed: true},
	replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1: {compressed: true, update: true},
	replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1: {compressed: true},
	mariadbWriteRowsCompressedV2:                        {compressed: true, extra: true},
	mariadbUpdateRowsCompressedV2:                       {compressed: true, extra: true, update: true},
	mariadbDeleteRowsCompressedV2:                       {compressed: true, extra: true},
}

const (
	mariadbWriteRowsCompressedV2 eventKind = 169 + iota
	mariadbUpdateRowsCompressedV2
	mariadbDeleteRowsCompressedV2
)

// decodeImage gives the encoder one row, and returns what follows it. An image that lacks columns is an error before the
// encoder is given anything.
func (p *plan) decodeImage(data, present []byte, e *digest.Encoder) (rest []byte, err error) {
	if !allSet(present, len(p.columns)) {
		return nil, errPartialImage
	}
	n := (len(p.columns) + 7) / 8
	if len(data) < n {
		return nil, fmt.Errorf("table %s: a row %w", p.table, errEnds)
	}
	nulls, data := data[:n], data[n:]
	for i := range p.columns {
		c := &p.columns[i]
		if nulls[i>>3]>>(i&7)&1 != 0 {
			if c.target >= 0 {
				e.Null(c.target)
			}
			continue
		}
		v, rest, ok := c.cut(data)
		if !ok {
			return nil, p.wrong(i, errEnds)
		}
		data = rest
		if c.target < 0 {
			continue
		}
		if err := c.read(c, e, v); err != nil {
			return nil, p.wrong(i, err)
		}
	}
	return data, nil
}

var errEnds = errors.New("ends too early in its row image")

// wrong names the column that an error is about, unless the encoder has done so. It never quotes a value.
func (p *plan) wrong(column int, err error) error {
	var named *namedError
	if errors.As(err, &named) {
		return err
	}
	return fmt.Errorf("table %s: column %q %w", p.table, p.columns[column].name, err)
}

// namedError is an error of the encoder's, which names the table and the column.
type namedError struct{ error }

func (e *namedError) Unwrap() error { return e.error }

// cut takes the bytes of a value off the start of data.
func (c *planColumn) cut(data []byte) (v, rest []byte, ok bool) {
	n := c.size
	if c.prefix > 0 {
		if len(data) < c.prefix {
			return nil, nil, false
		}
		n = int(littleEndian(data[:c.prefix]))
		data = data[c.prefix:]
	}
	if n > len(data) {
		return nil, nil, false
	}
	return data[:n:n], data[n:], true
}

// allSet reports whether the bitmap has n bits, and all of them are set.
func allSet(bitmap []byte, n int) bool {
	if len(bitmap) != (n+7)/8 {
		return false
	}
	for _, b := range bitmap[:n/8] {
		if b != 0xff {
			return false
		}
	}
	last := byte(1)<<(n%8) - 1
	return n%8 == 0 || bitmap[n/8]&last == last
}

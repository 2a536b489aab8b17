package mysql

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Distributed transactions are logged in two groups of their own id each: one at XA PREPARE, with the rows, and one at XA
// COMMIT or XA ROLLBACK, with nothing but the name. Between the two others may come, the server may be restarted, and so
// may we. Rows count from XA COMMIT on.

// prepared is a distributed transaction that waits for its end.
type prepared struct {
	xid     string
	id      cdc.TxID  // of the group with the rows
	before  cdc.TxSet // the last id of each domain when that group began
	changes []cdc.Change
	touched []cdc.Touched
	others  []string
}

// xidText is how XA statements are logged: X'gtrid',X'bqual',format.
func xidText(gtrid, bqual []byte, format uint64) string {
	return fmt.Sprintf("X'%s',X'%s',%d", hex.EncodeToString(gtrid), hex.EncodeToString(bqual), format)
}

// xidOf reads the name of a transaction from what follows XA COMMIT or XA ROLLBACK.
func xidOf(tokens []token) (string, error) {
	parts, format := [2][]byte{}, uint64(1)
	for i := range 3 {
		if i > 0 && (len(tokens) == 0 || !tokens[0].is(",")) {
			break
		}
		if i > 0 {
			tokens = tokens[1:]
		}
		if len(tokens) == 0 || tokens[0].kind != literal {
			return "", errors.New("an XA statement names no transaction")
		}
		t := tokens[0]
		tokens = tokens[1:]
		var err error
		switch {
		case i == 2:
			format, err = strconv.ParseUint(t.text, 10, 32)
		case t.hex:
			parts[i], err = hex.DecodeString(t.text)
		default:
			parts[i] = []byte(t.text)
		}
		if err != nil {
			return "", fmt.Errorf("an XA statement names a transaction in a way that is not known: %w", err)
		}
	}
	return xidText(parts[0], parts[1], format), nil
}

// parsePrepare reads an XA_PREPARE_LOG_EVENT: one phase 1 | format 4 | length of gtrid 4 | of bqual 4 | both.
func parsePrepare(body []byte) (xid string, onePhase bool, err error) {
	const fixed = 1 + 4 + 4 + 4
	if len(body) < fixed {
		return "", false, errors.New("XA prepare event is too short")
	}
	format := binary.LittleEndian.Uint32(body[1:])
	gtrid, bqual := uint64(binary.LittleEndian.Uint32(body[5:])), uint64(binary.LittleEndian.Uint32(body[9:]))
	data := body[fixed:]
	if gtrid+bqual > uint64(len(data)) {
		return "", false, errors.New("XA prepare event is too short for its name")
	}
	return xidText(data[:gtrid], data[gtrid:gtrid+bqual], uint64(format)), body[0] != 0, nil
}

// waiting holds the distributed transactions that were prepared and not ended yet, the oldest first.
type waiting struct {
	list []*prepared
}

func (w *waiting) add(p *prepared) {
	w.take(p.xid) // the name may be used again once it is free; if it was not, the log shows no end of the older one
	w.list = append(w.list, p)
}

// take returns the transaction of a name and forgets it; nil if there is none.
func (w *waiting) take(xid string) *prepared {
	for i, p := range w.list {
		if p.xid == xid {
			w.list = append(w.list[:i:i], w.list[i+1:]...)
			return p
		}
	}
	return nil
}

// resume returns what to ask the server to go on after, so that it sends the prepared groups again: nil if there are none.
// On MySQL it is the set of all others that were shown; on MariaDB, which sends everything after a place, the place
// before the oldest.
func (w *waiting) resume(mariadb bool, shown cdc.TxSet) *cdc.TxSet {
	if len(w.list) == 0 {
		return nil
	}
	if mariadb {
		before := w.list[0].before
		return &before
	}
	var ids cdc.TxSet
	for _, p := range w.list {
		ids.AddRange(p.id.Source, p.id.Seq, p.id.Seq)
	}
	rest := shown.Without(ids)
	return &rest
}

// unknownXA is about the end of a transaction whose rows we have not seen.
func unknownXA(xid string) error {
	return &cdc.GapError{
		Reason: fmt.Sprintf("XA COMMIT %s committed a transaction that was prepared before lockstep read this log", strings.ToUpper(xid)),
		Hint:   "end prepared transactions before lockstep first reads a server; XA RECOVER lists them",
	}
}

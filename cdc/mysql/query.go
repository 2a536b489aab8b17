package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/go-mysql-org/go-mysql/replication"
)

// query is a QUERY_EVENT: a statement that the log holds as its text.
type query struct {
	schema   string // the default one when it was run
	text     string
	dialect  dialect
	readable bool // its text can be taken apart: it is UTF-8
}

var errShortQuery = errors.New("query event is too short for what it says it holds")

// parseQuery reads a QUERY_EVENT without its header:
//
//	thread 4 | seconds 4 | length of schema 1 | error 2 | length of status 2 | status | schema | 0 | text
//
// In an EXECUTE_LOAD_QUERY_EVENT more bytes of other use are in front of the status. MariaDB may deflate the text.
func parseQuery(body []byte, more int, deflated bool) (query, error) {
	const fixed = 4 + 4 + 1 + 2 + 2
	if len(body) < fixed+more {
		return query{}, errShortQuery
	}
	schema, status := int(body[8]), int(binary.LittleEndian.Uint16(body[11:]))
	rest := body[fixed+more:]
	if len(rest) < status+schema+1 {
		return query{}, errShortQuery
	}
	text := rest[status+schema+1:]
	if deflated {
		var err error
		if text, err = inflateRows(text); err != nil {
			return query{}, fmt.Errorf("query event: %w", err)
		}
	}
	q := query{schema: string(rest[status : status+schema]), text: string(text)}
	q.readStatus(rest[:status])
	return q, nil
}

// The parts of a query's status that come first, by their codes
// (https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Query__event.html).
const (
	statusFlags         = 0
	statusSQLMode       = 1
	statusAutoIncrement = 3
	statusCharset       = 4
	statusTimeZone      = 5
	statusCatalog       = 6
)

const (
	modeANSIQuotes         = 1 << 2
	modeNoBackslashEscapes = 1 << 20
)

// readStatus takes what shapes the text: sql_mode and the client's character set. Where these are missing the text is
// readable only if it is ASCII.
func (q *query) readStatus(status []byte) {
	charset, known := uint16(0), false
	for len(status) > 0 && !known {
		code := status[0]
		n := map[byte]int{statusFlags: 4, statusSQLMode: 8, statusAutoIncrement: 4, statusCharset: 6}[code]
		if (code == statusTimeZone || code == statusCatalog) && len(status) > 1 {
			n = 1 + int(status[1])
		}
		if n == 0 || len(status) < 1+n {
			break
		}
		value := status[1 : 1+n]
		status = status[1+n:]
		switch code {
		case statusSQLMode:
			mode := binary.LittleEndian.Uint64(value)
			q.dialect = dialect{ansiQuotes: mode&modeANSIQuotes != 0, noBackslash: mode&modeNoBackslashEscapes != 0}
		case statusCharset:
			charset, known = binary.LittleEndian.Uint16(value), true
		}
	}
	ascii := !slices.ContainsFunc([]byte(q.text), func(c byte) bool { return c >= utf8.RuneSelf })
	q.readable = ascii || known && isUTF8(charset) && utf8.ValidString(q.text)
}

// isUTF8 reports whether a collation is of utf8mb3 or utf8mb4.
func isUTF8(collation uint16) bool {
	switch c := collation; {
	case c == 33, c == 45, c == 46, c == 76, c == 83, c == 223, c >= 192 && c <= 215, c >= 224 && c <= 247, c >= 255 && c <= 323:
		return true
	}
	return false
}

// control is what a statement does to the group that it stands in.
type control uint8

const (
	noControl control = iota // it changes tables, or nothing
	begin
	commit
	rollback
	savepoint
	rollbackTo // a savepoint
	release    // of one, or what a distributed transaction needs besides
	xaStart
	xaEnd
	xaCommit
	xaRollback
)

// controlOf reports what a statement does to its group, and the name of the savepoint or transaction that it is about.
func controlOf(tokens []token) (c control, about string, err error) {
	at := func(i int) token {
		if i < len(tokens) {
			return tokens[i]
		}
		return token{}
	}
	switch first, second := at(0), at(1); {
	case first.is("BEGIN") && (len(tokens) == 1 || second.is("WORK")), first.is("START") && second.is("TRANSACTION"):
		return begin, "", nil
	case first.is("COMMIT") && (len(tokens) == 1 || second.is("WORK")):
		return commit, "", nil
	case first.is("ROLLBACK") && (len(tokens) == 1 || len(tokens) == 2 && second.is("WORK")):
		return rollback, "", nil
	case first.is("ROLLBACK") && second.in("TO", "WORK"):
		return rollbackTo, tokens[len(tokens)-1].text, nil
	case first.is("SAVEPOINT"):
		return savepoint, second.text, nil
	case first.is("RELEASE") && second.is("SAVEPOINT"):
		return release, "", nil
	case first.is("XA"):
		return xaControl(second, tokens)
	}
	return noControl, "", nil
}

func xaControl(verb token, tokens []token) (c control, about string, err error) {
	switch {
	case verb.in("START", "BEGIN"):
		return xaStart, "", nil
	case verb.in("END", "PREPARE"):
		return xaEnd, "", nil
	case verb.is("COMMIT") && tokens[len(tokens)-1].is("PHASE"):
		return commit, "", nil
	case verb.is("COMMIT"):
		c = xaCommit
	case verb.is("ROLLBACK"):
		c = xaRollback
	default:
		return 0, "", fmt.Errorf("statement XA %s is not known", verb.text)
	}
	about, err = xidOf(tokens[2:])
	return c, about, err
}

// loadMore is how much longer the fixed part of an EXECUTE_LOAD_QUERY_EVENT is: a file's id, a place in the text, flags.
const loadMore = 4 + 4 + 4 + 1

// readQuery reads an event that holds a statement.
func readQuery(h *header, body []byte) (query, error) {
	more := 0
	if h.kind == replication.EXECUTE_LOAD_QUERY_EVENT {
		more = loadMore
	}
	return parseQuery(body, more, h.kind == replication.MARIADB_QUERY_COMPRESSED_EVENT)
}

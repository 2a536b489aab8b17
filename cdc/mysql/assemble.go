package mysql

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// assembler turns the events of one stream into transactions. It belongs to one goroutine.
//
// A transaction is a group of events: one with its id, tables and their rows, and a commit. Where it lies in the log is
// where the group begins and ends; that is in the order of commits.
type assembler struct {
	hasher  *digest.Hasher
	current func() *watched // the list as it is now
	passed  func(cdc.Event) // told of each event, before the list is looked at for the last time
	fold    func() bool     // names of tables are compared without case
	// distributed, if set, is told of each distributed transaction that is committed, and of each that is prepared.
	distributed func(xid string, committed bool)
	mariadb     bool

	cursor  logCursor
	started bool   // the server was started after what is shown
	summed  bool   // events have checksums
	lengths []byte // of post-headers, by type
	names   names
	unpacker

	from    cdc.Position // where the stream begins
	at      cdc.Position // how far it is shown
	reread  cdc.Position // the same, but while what was shown before comes again, how far that is
	mark    logMark      // of what is shown
	waiting waiting

	maps  map[uint64]*mapped // by the table's id
	group group
}

func newAssembler(from cdc.Position, h *digest.Hasher) *assembler {
	a := &assembler{
		hasher: h, names: names{}, maps: map[uint64]*mapped{},
		from: from.Clone(), at: from.Clone(), reread: from.Clone(), mark: parseMark(from.Mark),
	}
	if from.Resume == nil {
		a.cursor.floor = from.LSN
	} else {
		a.reread = cdc.Position{Shown: from.Resume.Clone(), Last: from.Resume.Clone()}
	}
	return a
}

// feed takes one event of the log. It returns what there is to yield: the end of a group, or progress. An error means
// that the stream does not follow the protocol as we know it, or has a hole.
func (a *assembler) feed(event []byte) (cdc.Event, bool, error) {
	h, body, err := parseHeader(event)
	if err != nil {
		return cdc.Event{}, false, err
	}
	switch h.kind {
	case replication.FORMAT_DESCRIPTION_EVENT:
		a.summed, a.lengths, err = parseFormat(event, body)
		a.lengths = slices.Clone(a.lengths)
		if a.group.open && a.group.file != a.cursor.file {
			a.group.open = false // a crash left it without an end, and the server has undone it
		}
		if at, err := a.cursor.place(); err == nil && at >= a.at.LSN && a.mariadb && atStart(body) {
			a.started = true
		}
		if err == nil {
			a.mark.enter(a.cursor.file, h.seconds)
		}
		return a.besides(&h, err)
	case replication.ROTATE_EVENT:
		return a.move(&h, withoutSum(event, body))
	}
	if a.summed {
		if body, err = checkSum(event, body); err != nil {
			return cdc.Event{}, false, err
		}
	}
	switch h.kind {
	case replication.PREVIOUS_GTIDS_EVENT, replication.MARIADB_GTID_LIST_EVENT, replication.MARIADB_BINLOG_CHECKPOINT_EVENT,
		replication.MARIADB_START_ENCRYPTION_EVENT, replication.STOP_EVENT:
		return a.besides(&h, nil)
	case replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		if !a.summed {
			body = withoutSum(event, body)
		}
		return a.move(&h, body)
	}
	if h.artificial() {
		return cdc.Event{}, false, nil
	}
	begins, opens, err := a.begin(&h, body)
	if err != nil {
		return cdc.Event{}, false, err
	}
	if !begins {
		err = a.take(&h, body)
	}
	if err == nil {
		err = a.cursor.pass(&h)
	}
	if err == nil && begins {
		err = a.open(&h, opens)
	}
	if begins != a.mariadb {
		a.group.telling = telling{a.cursor.offset - uint64(h.size), sumOf(event, a.summed)}
	}
	if err != nil || a.group.end == running {
		return cdc.Event{}, false, err
	}
	return a.finish()
}

// besides passes an event of the server's own that belongs to no transaction.
func (a *assembler) besides(h *header, err error) (cdc.Event, bool, error) {
	if err != nil {
		return cdc.Event{}, false, err
	}
	if !h.artificial() {
		a.cursor.note(h)
	}
	return a.progress()
}

// move goes to where the server says that the stream is: in the next file, or further on when there is nothing for us.
func (a *assembler) move(h *header, body []byte) (cdc.Event, bool, error) {
	parse := parseRotate
	switch h.kind {
	case replication.HEARTBEAT_EVENT:
		parse = func(body []byte) (string, uint64, error) { return parseHeartbeat(h, body) }
	case replication.HEARTBEAT_LOG_EVENT_V2:
		parse = parseHeartbeat2
	}
	file, offset, err := parse(body)
	if err == nil && !(a.group.open && h.kind != replication.ROTATE_EVENT) {
		err = a.cursor.rotate(file, offset)
	}
	if err != nil {
		return cdc.Event{}, false, err
	}
	return a.progress()
}

// progress is the event that says how far the stream is, if that is further than it was.
func (a *assembler) progress() (cdc.Event, bool, error) {
	at, err := a.cursor.place()
	if err != nil || a.group.open || at <= a.at.LSN {
		return cdc.Event{}, false, err
	}
	return a.show(cdc.Event{Position: at}), true, nil
}

// show notes an event that is about to be yielded.
func (a *assembler) show(e cdc.Event) cdc.Event {
	a.at.Pass(e)
	e.Resume = a.waiting.resume(a.mariadb, a.at.Shown)
	e.Started, a.started = a.started, false
	e.Mark = a.mark.String()
	a.at.Resume = e.Resume
	a.passed(e)
	return e
}

var errAnonymous = &cdc.SetupError{
	Problem: "the log has transactions without a GTID",
	Hint:    "SET PERSIST gtid_mode = ON; (by way of OFF_PERMISSIVE and ON_PERMISSIVE, and with enforce_gtid_consistency = ON)",
}

// begin reads the event that begins a group, if this is one.
func (a *assembler) begin(h *header, body []byte) (begins bool, opens groupHeader, err error) {
	switch h.kind {
	case replication.GTID_EVENT:
		opens, err = a.names.parseGTID(h, body)
	case replication.GTID_TAGGED_LOG_EVENT:
		opens, err = a.names.parseTagged(h, body)
	case replication.MARIADB_GTID_EVENT:
		opens, err = a.names.parseMariaDBGTID(h, body)
	case replication.ANONYMOUS_GTID_EVENT:
		err = errAnonymous
	default:
		return false, opens, nil
	}
	return true, opens, err
}

// open begins a group with the event that was just passed.
func (a *assembler) open(h *header, opens groupHeader) error {
	end, err := a.cursor.place()
	if err != nil {
		return err
	}
	g := &a.group
	if g.open {
		return fmt.Errorf("transaction %v begins within %v", opens.id, g.id)
	}
	if len(a.maps) > mostMaps {
		clear(a.maps)
	}
	clear(g.changes) // let go of the last transaction's memory
	a.group = group{
		open: true, groupHeader: opens, serial: g.serial + 1, start: end - cdc.LSN(h.size), file: a.cursor.file,
		list: a.current(), changes: g.changes[:0], savepoints: g.savepoints[:0], others: g.others[:0],
	}
	return nil
}

// take takes an event within a group.
func (a *assembler) take(h *header, body []byte) error {
	if !a.group.open || a.group.end != running {
		if h.flags&flagIgnorable != 0 {
			return nil
		}
		return a.outside(h)
	}
	switch h.kind {
	case replication.TABLE_MAP_EVENT:
		return a.mapTable(body)
	case replication.WRITE_ROWS_EVENTv1, replication.WRITE_ROWS_EVENTv2, replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1, mariadbWriteRowsCompressedV2:
		return a.rows(h, body, cdc.Insert)
	case replication.UPDATE_ROWS_EVENTv1, replication.UPDATE_ROWS_EVENTv2, replication.PARTIAL_UPDATE_ROWS_EVENT,
		replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1, mariadbUpdateRowsCompressedV2:
		return a.rows(h, body, cdc.Update)
	case replication.DELETE_ROWS_EVENTv1, replication.DELETE_ROWS_EVENTv2, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1, mariadbDeleteRowsCompressedV2:
		return a.rows(h, body, cdc.Delete)
	case replication.XID_EVENT:
		a.group.end = committed
		return nil
	case replication.QUERY_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT, replication.EXECUTE_LOAD_QUERY_EVENT:
		return a.query(h, body)
	case replication.XA_PREPARE_LOG_EVENT:
		return a.prepare(body)
	case replication.TRANSACTION_PAYLOAD_EVENT:
		return a.unpack(body)
	case replication.INTVAR_EVENT, replication.RAND_EVENT, replication.USER_VAR_EVENT, replication.BEGIN_LOAD_QUERY_EVENT,
		replication.APPEND_BLOCK_EVENT, replication.DELETE_FILE_EVENT, replication.ROWS_QUERY_EVENT, replication.IGNORABLE_EVENT,
		replication.MARIADB_ANNOTATE_ROWS_EVENT, replication.TRANSACTION_CONTEXT_EVENT, replication.VIEW_CHANGE_EVENT:
		return nil
	}
	return a.unknown(h)
}

// outside judges an event that has no group.
func (a *assembler) outside(h *header) error {
	if h.kind == replication.INCIDENT_EVENT {
		return &cdc.GapError{Reason: "the server says that its log lacks changes (incident event)", Hint: "its error log tells why"}
	}
	return fmt.Errorf("event %s stands outside of a transaction", nameOf(h.kind))
}

// unknown judges an event that we do not know.
func (a *assembler) unknown(h *header) error {
	switch {
	case h.kind == replication.INCIDENT_EVENT:
		return a.outside(h)
	case h.flags&flagIgnorable != 0:
		return nil
	}
	return &cdc.SetupError{
		Problem: fmt.Sprintf("the log has an event %s that this version of lockstep does not know", nameOf(h.kind)),
		Hint:    "use a version of lockstep that knows this server's",
	}
}

// unpack takes the events of a compressed transaction.
func (a *assembler) unpack(body []byte) error {
	p, err := parsePayload(body)
	if err != nil {
		return err
	}
	return a.each(p, func(event []byte) error {
		h, body, err := parseHeader(event)
		if err != nil {
			return err
		}
		if h.kind == replication.TRANSACTION_PAYLOAD_EVENT {
			return errors.New("a compressed transaction holds another one")
		}
		return a.take(&h, body)
	})
}

// prepare takes the end of the rows of a distributed transaction.
func (a *assembler) prepare(body []byte) error {
	xid, onePhase, err := parsePrepare(body)
	a.group.end, a.group.xid = preparedXA, xid
	if onePhase {
		a.group.end = committed
	}
	return err
}

// query takes a statement.
func (a *assembler) query(h *header, body []byte) error {
	q, err := readQuery(h, body)
	if err != nil {
		return err
	}
	g := &a.group
	e := unreadable
	if q.readable {
		tokens := tokenize(q.text, q.dialect)
		c, about, err := controlOf(tokens)
		if err != nil {
			return err
		}
		if c != noControl {
			g.control(c, about)
			return nil
		}
		e = effectOf(tokens)
	}
	a.affect(statementEffect{e, q.schema}, g.list)
	g.effects = append(g.effects, statementEffect{e, q.schema})
	if !g.rolling && (!a.mariadb || g.standalone) {
		g.end = committed
	}
	return nil
}

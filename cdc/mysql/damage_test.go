package mysql

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

var update = flag.Bool("update", false, "record testdata/stream-*.txt from servers")

// stream is what a server sends, from the beginning of a file on.
type stream struct {
	mariadb bool
	events  [][]byte
}

// recordedStreams are those in testdata, which TestStreamsHaveAllThatIsHandled makes.
var recordedStreams = []string{"stream-mysql-9.7.txt", "stream-mariadb-10.11.txt"}

// damageable are the streams that tests damage: the recorded ones, and what servers send only in cases that are hard to bring about.
func damageable(t testing.TB) (list []stream) {
	t.Helper()
	for _, file := range recordedStreams {
		list = append(list, stream{strings.Contains(file, "mariadb"), readCapture(t, file)})
	}
	for _, mariadb := range []bool{false, true} {
		for _, summed := range []bool{false, true} {
			list = append(list, stream{mariadb, rarities(t, mariadb, summed)})
		}
	}
	return list
}

// rarities is a stream of events that the recorded ones do not have.
func rarities(t testing.TB, mariadb, summed bool) [][]byte {
	t.Helper()
	w := &logWriter{server: 5, summed: summed}
	seq := uint64(0)
	begin := func() []byte {
		seq++
		if mariadb {
			return w.mariadbGTID(seq, 0)
		}
		return w.gtid(seq)
	}
	beat2 := append([]byte{replication.OTW_HB_LOG_FILENAME_FIELD, 8}, "b.000001"...)
	beat2 = append(beat2, replication.OTW_HB_LOG_POSITION_FIELD, 3, 0xfc, 0xff, 0xff, replication.OTW_HB_HEADER_END_MARK)
	load := slices.Insert(queryBody("shop", "LOAD DATA INFILE 'x' INTO TABLE orders"), 13, make([]byte, loadMore)...)
	events := append(w.begin("b.000001"), w.event(replication.MARIADB_START_ENCRYPTION_EVENT, make([]byte, 17)))
	events = append(events, begin(), w.query("BEGIN"), w.event(replication.BEGIN_LOAD_QUERY_EVENT, []byte("\x01\x00\x00\x001,x\n")),
		w.event(replication.APPEND_BLOCK_EVENT, []byte("\x01\x00\x00\x002,y\n")), w.event(replication.DELETE_FILE_EVENT, []byte("\x01\x00\x00\x00")),
		w.event(replication.EXECUTE_LOAD_QUERY_EVENT, load), w.event(replication.IGNORABLE_EVENT, []byte("x")), w.xid())
	events = append(events, begin(), w.query("BEGIN"), w.event(replication.TRANSACTION_CONTEXT_EVENT, make([]byte, 20)), w.event(replication.VIEW_CHANGE_EVENT, make([]byte, 60)), w.xid())
	rows := rowsBody(9, 1)
	packed := append(slices.Clone(rows[:12]), deflated(t, 0x80, rows[12:], true)...)
	for _, kind := range []eventKind{mariadbWriteRowsCompressedV2, mariadbDeleteRowsCompressedV2} {
		events = append(events, begin(), w.query("BEGIN"), w.table(9, "orders"), w.event(kind, packed), w.xid())
	}
	both := rowsBody(9, 1, 2)
	packed = append(append(slices.Clone(both[:12]), 0b11), deflated(t, 0x80, both[12:], true)...)
	events = append(events, begin(), w.query("BEGIN"), w.table(9, "orders"), w.event(mariadbUpdateRowsCompressedV2, packed), w.xid())
	events = append(events, w.artificial(replication.HEARTBEAT_EVENT, []byte("b.000001")), w.artificial(replication.HEARTBEAT_LOG_EVENT_V2, beat2))
	events = append(events, w.event(replication.STOP_EVENT, nil))
	events = append(events, w.begin("b.000002")...)
	return append(events, begin(), w.query("BEGIN"), w.event(replication.INCIDENT_EVENT, []byte{1, 0, 0}))
}

// documents is the definition of shop.documents.
func documents(mariadb bool) (cdc.Table, cdc.Epoch, *definition) {
	body := digest.MySQLType{DataType: "json", ColumnType: "json"}
	if mariadb {
		body = digest.MySQLType{DataType: "longtext", ColumnType: "longtext", Charset: "utf8mb4"}
	}
	d := &definition{schema: "shop", table: "documents", name: "shop.documents", key: []keyPart{{column: "id"}}, columns: []columnDefinition{
		{name: "id", kind: digest.MySQLType{DataType: "int", ColumnType: "int"}},
		{name: "body", kind: body, nullable: true},
	}}
	t := (&catalogView{}).describe(d)
	e := epochOf(t)
	e.Table = 8
	return t, e, d
}

// recordedWrites are what is done while a stream is recorded, a session each.
func recordedWrites(mariadb bool) [][]string {
	list := [][]string{
		{"INSERT INTO orders VALUES (1, 'one'), (2, NULL), (9, 'nine')", "UPDATE orders SET note = 'x' WHERE id = 1", "UPDATE orders SET id = 3 WHERE id = 2", "DELETE FROM orders WHERE id = 3"},
		{"BEGIN", "INSERT INTO orders VALUES (4, 'four')", "SAVEPOINT s", "INSERT INTO documents VALUES (1, '{\"a\": 1, \"b\": [true, \"x\"]}')", "COMMIT"},
		{"SET SESSION binlog_format = STATEMENT", "SET @u = 'it''s'", "INSERT INTO counted (note) VALUES (CONCAT(RAND(), @u))"},
		{"XA START 'x'", "INSERT INTO orders VALUES (5, 'five')", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"},
		{"TRUNCATE orders", "FLUSH BINARY LOGS"},
	}
	if mariadb {
		list = append(list, []string{"SET GLOBAL log_bin_compress = 1, log_bin_compress_min_len = 10"},
			[]string{"INSERT INTO orders VALUES (6, REPEAT('six', 9)), (7, REPEAT('six', 9))", "UPDATE orders SET note = REPEAT('seven', 9)", "DELETE FROM orders WHERE id = 7",
				"CREATE TABLE written_long (id int PRIMARY KEY, note varchar(50))"},
			[]string{"SET GLOBAL log_bin_compress = DEFAULT, log_bin_compress_min_len = DEFAULT"})
	} else {
		list = append(list, []string{"SET binlog_rows_query_log_events = 1, binlog_row_value_options = PARTIAL_JSON", "UPDATE documents SET body = JSON_SET(body, '$.a', 2)"},
			[]string{"SET gtid_next = 'AUTOMATIC:db'", "INSERT INTO orders VALUES (6, 'six')"},
			[]string{"SET binlog_transaction_compression = 1", "INSERT INTO orders VALUES (7, REPEAT('seven', 9)), (8, 'eight')"})
	}
	return append(list, []string{"CREATE TABLE ending (id int PRIMARY KEY)"})
}

// recordStream writes what a real server sends: from the beginning of a file to the first heartbeat after the last write.
func recordStream(t *testing.T, file string) {
	t.Helper()
	mariadb := strings.Contains(file, "mariadb")
	server := dbtest.StartMySQLT(t, dbtest.NeedMySQL(t, map[bool]dbtest.Flavour{false: dbtest.MySQL97, true: dbtest.MariaDB1011}[mariadb]), anew)
	if err := server.GrantLockstep(t.Context(), "pw"); err != nil {
		t.Fatal(err)
	}
	run(t, server, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id int PRIMARY KEY, note varchar(50))", "CREATE TABLE shop.documents (id int PRIMARY KEY, body json)",
		"CREATE TABLE shop.counted (id int PRIMARY KEY AUTO_INCREMENT, note varchar(50))", "FLUSH BINARY LOGS")
	source := probe(t, server, "")
	from, err := source.Prepare(t.Context(), cdc.Position{})
	if err != nil {
		t.Fatal(err)
	}
	for _, statements := range recordedWrites(mariadb) {
		run(t, server, append([]string{"USE shop"}, statements...)...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := source.dump(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	defer d.hangUp()
	text := "# What a server sent. See damage_test.go.\n"
	for ended := false; ; {
		event, err := d.next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		kind := eventKind(event[4])
		text += strings.TrimSuffix(kind.String(), "Event") + " " + hex.EncodeToString(event) + "\n"
		ended = ended || strings.Contains(string(event), "CREATE TABLE ending")
		if ended && (kind == replication.HEARTBEAT_EVENT || kind == replication.HEARTBEAT_LOG_EVENT_V2) {
			break
		}
	}
	if err := os.WriteFile("testdata/"+file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// outcome is what came of a stream.
type outcome struct {
	events []cdc.Event
	err    error        // which ended it
	fault  *fault.Error // of a decoder that panicked, and was caught
}

// readStream reads a stream as a source that watches both tables does.
func readStream(s stream) (o outcome) {
	var list watchlist
	list.set(orders())
	list.set(documents(s.mariadb))
	a := reader(cdc.Position{}, s.mariadb)
	a.current = list.load
	defer a.close()
	for _, event := range s.events {
		e, something, err := a.feed(event)
		for _, touched := range a.group.touched {
			o.fault = cmp.Or(o.fault, touched.Fault)
		}
		if err != nil {
			o.err = err
			return o
		}
		if something {
			o.events = append(o.events, e)
		}
	}
	return o
}

// shown prints what was read.
func (o outcome) shown() string {
	var b strings.Builder
	for _, e := range o.events {
		fmt.Fprintln(&b, e.Position, e.Through)
		if e.Transaction != nil {
			fmt.Fprintf(&b, "  %+v\n", *e.Transaction)
		}
	}
	return b.String()
}

// handles reports whether the assembler does not refuse events of a type, whatever they hold.
func handles(kind eventKind) bool {
	w := &logWriter{}
	a := reader(cdc.Position{}, false)
	for _, event := range append(w.begin("b.000001"), w.gtid(1)) {
		if _, _, err := a.feed(event); err != nil {
			return false
		}
	}
	_, _, err := a.feed(w.event(kind, nil))
	return !cdc.IsSetup(err)
}

// TestStreamsHaveAllThatIsHandled reads the streams as they are; with -update it records them before.
func TestStreamsHaveAllThatIsHandled(t *testing.T) {
	if *update {
		for _, file := range recordedStreams {
			recordStream(t, file)
		}
	}
	kinds := map[eventKind]bool{}
	for i, s := range damageable(t) {
		for _, event := range s.events {
			kinds[eventKind(event[4])] = true
		}
		got := readStream(s)
		recorded := i < len(recordedStreams)
		if n := len(transactions(got.events)); n < 3 || got.fault != nil || recorded && got.err != nil || !recorded && !cdc.IsGap(got.err) {
			t.Errorf("stream %d: %d transactions, %v, %v\n%s", i, n, got.err, got.fault, got.shown())
		}
	}
	for kind := range eventKind(255) {
		if handles(kind) && !kinds[kind] {
			t.Errorf("no stream has an event %s, which is handled", nameOf(kind))
		}
	}
}

// damaged is a stream with one event changed: flips are places in it, in two bytes, and what is to be flipped there; cut is how
// much of its end is missing. mend makes its length and checksum fit again, as whoever is on the way can.
func (s stream) damaged(at int, flips []byte, cut int, mend bool) stream {
	s.events = slices.Clone(s.events)
	event := slices.Clone(s.events[at])
	event = event[:len(event)-min(cut, len(event))]
	for ; len(flips) >= 3 && len(event) > 0; flips = flips[3:] {
		event[int(binary.BigEndian.Uint16(flips))%len(event)] ^= flips[2]
	}
	if mend && len(event) >= headerSize+checksumSize {
		binary.LittleEndian.PutUint32(event[9:], uint32(len(event)))
		if n := len(event) - checksumSize; sumFits(s.events[at]) {
			binary.LittleEndian.PutUint32(event[n:], crc32.ChecksumIEEE(event[:n]))
		}
	}
	s.events[at] = event
	return s
}

// judge says what is wrong about what came of a damaged event: a panic that a decoder's guard had to catch, a position that goes back,
// or something else than before, where checksums could tell.
func (s stream) judge(at int, whole, got outcome, same, mend bool) string {
	if got.fault != nil {
		return fmt.Sprintf("a panic: %v", got.fault)
	}
	last := cdc.LSN(0)
	for _, e := range got.events {
		if e.Position < last {
			return fmt.Sprintf("the position goes back from %v to %v", last, e.Position)
		}
		last = e.Position
		if tx := e.Transaction; tx != nil && (tx.ID.IsZero() || tx.Commit >= tx.End) {
			return fmt.Sprintf("%+v", tx)
		}
	}
	if same || mend || !sumFits(s.events[at]) || eventKind(s.events[at][4]) == replication.FORMAT_DESCRIPTION_EVENT { // which says whether there are any
		return ""
	}
	if before := got.shown(); !strings.HasPrefix(whole.shown(), before) || got.err == nil && before != whole.shown() {
		return fmt.Sprintf("its checksum does not fit, and what was read is another thing (%v):\n%s\nwas\n%s", got.err, before, whole.shown())
	}
	return ""
}

// A heartbeat that was damaged once moved the position ahead, to where nothing had been read, though its checksum said so.
func TestDamagedEventsAreErrorsOrDecode(t *testing.T) {
	step := 29
	if soak {
		step = 1
	}
	streams := damageable(t)
	errors, same, other := 0, 0, 0
	for i, s := range streams {
		whole := readStream(s)
		for at, event := range s.events {
			for bit := at % step; bit < 8*len(event); bit += step {
				for _, mend := range []bool{false, true} {
					got := readStream(s.damaged(at, []byte{byte(bit >> 11), byte(bit >> 3), 1 << (bit & 7)}, 0, mend))
					if wrong := s.judge(at, whole, got, false, mend); wrong != "" {
						t.Errorf("stream %d, event %d (%s), bit %d of byte %d, mended %t: %s", i, at, nameOf(eventKind(event[4])), bit%8, bit/8, mend, wrong)
					}
					switch {
					case (got.err == nil) != (whole.err == nil):
						errors++
					case got.shown() == whole.shown():
						same++
					default:
						other++
					}
				}
			}
		}
	}
	t.Logf("%d were errors, %d changed nothing, %d are read as something else", errors, same, other)
}

// FuzzDamage changes an event of a real stream. What is left must be read as something, or be an error; see judge.
func FuzzDamage(f *testing.F) {
	streams := damageable(f)
	wholes := make([]outcome, len(streams))
	for i, s := range streams {
		wholes[i] = readStream(s)
		for at := range s.events {
			f.Add(uint8(i), uint16(at), []byte{0, byte(20 + at), 1}, uint8(0), true)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, flips []byte, cut uint8, mend bool) {
		i := int(which) % len(streams)
		s := streams[i]
		n := int(at) % len(s.events)
		d := s.damaged(n, flips, int(cut), mend)
		if wrong := s.judge(n, wholes[i], readStream(d), bytes.Equal(d.events[n], s.events[n]), mend); wrong != "" {
			t.Errorf("event %d (%s): %s", n, nameOf(eventKind(s.events[n][4])), wrong)
		}
	})
}

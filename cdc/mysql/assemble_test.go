package mysql

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	wire "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

func TestNothingButItsCommitEndsATransaction(t *testing.T) {
	w := &logWriter{summed: true}
	a := reader(cdc.Position{}, false)
	events := feedAll(t, a, append(w.begin("binlog.000003"), w.gtid(5), w.query("BEGIN"), w.table(9, "orders"), w.insert(9, 1))...)
	within := a.at.LSN
	heartbeat := append([]byte{replication.OTW_HB_LOG_FILENAME_FIELD, 13}, "binlog.000003"...)
	heartbeat = append(heartbeat, replication.OTW_HB_LOG_POSITION_FIELD, 3, 0xfc, 0xff, 0xff, replication.OTW_HB_HEADER_END_MARK)
	noise := [][]byte{
		w.artificial(replication.ROTATE_EVENT, rotateBody("binlog.000003", 4)),
		w.artificial(replication.HEARTBEAT_EVENT, []byte("binlog.000003")),
		w.artificial(replication.HEARTBEAT_LOG_EVENT_V2, heartbeat),
		w.artificial(replication.MARIADB_GTID_LIST_EVENT, make([]byte, 4)),
		w.artificial(replication.PREVIOUS_GTIDS_EVENT, make([]byte, 8)),
		w.event(replication.MARIADB_BINLOG_CHECKPOINT_EVENT, []byte("binlog.000001")),
		w.event(replication.ROWS_QUERY_EVENT, []byte("\x05query")),
	}
	if got := feedAll(t, a, noise...); len(got) > 0 || a.at.LSN != within {
		t.Errorf("%+v at %v, want nothing at %v", got, a.at.LSN, within)
	}
	events = append(events, feedAll(t, a, w.insert(9, 2), w.xid())...)
	list := transactions(events)
	if len(list) != 1 || len(list[0].Changes) != 2 || list[0].ID != (cdc.TxID{Source: ownSource, Seq: 5}) {
		t.Fatalf("%+v", list)
	}
	if end, _ := position("binlog.000003", w.offset); list[0].End != end || list[0].Commit >= end || events[len(events)-1].Position != end {
		t.Errorf("%v to %v, want the end %v", list[0].Commit, list[0].End, end)
	}
	if got := feedAll(t, a, w.artificial(replication.HEARTBEAT_LOG_EVENT_V2, heartbeat)); len(got) != 1 || got[0].Position != a.at.LSN || got[0].Position <= list[0].End {
		t.Errorf("a heartbeat between transactions gives %+v", got)
	}
}

// TestPlacesAreCountedWhereHeadersDoNotTellThem has one file beyond 4 GiB, and MariaDB's headers without places.
func TestPlacesAreCountedWhereHeadersDoNotTellThem(t *testing.T) {
	w := &logWriter{summed: true, server: 101}
	a := reader(cdc.Position{}, true)
	feedAll(t, a, w.begin("log.bin.000012")...)
	w.offset = wrapsAt - 100
	near := w.artificial(replication.HEARTBEAT_EVENT, append(binary.LittleEndian.AppendUint64(nil, w.offset), "log.bin.000012"...))
	feedAll(t, a, near)
	for seq := uint64(1); seq < 30; seq++ {
		start := w.offset
		events := [][]byte{w.mariadbGTID(seq, 0)}
		w.without = true
		events = append(events, w.table(3, "orders"), w.insert(3, byte(seq)))
		w.without = seq%2 == 0
		events = append(events, w.xid())
		w.without = false
		got := feedAll(t, a, events...)
		from, _ := position("log.bin.000012", start)
		to, _ := position("log.bin.000012", w.offset)
		if len(got) != 1 || got[0].Transaction.Commit != from || got[0].Transaction.End != to {
			t.Fatalf("transaction %d is from %v to %v: %+v", seq, from, to, got)
		}
	}
	if w.offset < wrapsAt {
		t.Error("the file did not grow beyond what headers can tell")
	}
	// A stream that goes on there begins with headers only.
	b := reader(a.at, true)
	again := &logWriter{summed: true, server: 101}
	feedAll(t, b, again.begin("log.bin.000012")...)
	again.offset = w.offset
	got := feedAll(t, b, again.mariadbGTID(30, 0), again.table(3, "orders"), again.insert(3, 200), again.xid())
	if to, _ := position("log.bin.000012", again.offset); len(got) != 1 || got[0].Position != to {
		t.Errorf("%+v, want the end %v", got, to)
	}
}

func TestPlacesKeepTheOrderOfTheLog(t *testing.T) {
	last := cdc.LSN(0)
	for _, p := range []struct {
		file   string
		offset uint64
	}{{"b.000001", 4}, {"b.000001", 1 << 32}, {"b.000001", longestFile}, {"b.000002", 4}, {"b.999999", 4}, {"b.1000000", 4}, {"b.2147483647", longestFile}} {
		at, err := position(p.file, p.offset)
		if err != nil || at <= last {
			t.Errorf("%v: %v after %v (%v)", p, at, last, err)
		}
		last = at
		if number, offset := fileAndOffset(at); offset != p.offset || fileName("b.7", number) != p.file {
			t.Errorf("%v came back as %s, %d", p, fileName("b.7", number), offset)
		}
	}
	for _, file := range []string{"", "binlog", "binlog.", "binlog.x", "binlog.0", "b.2147483648", "b.-1"} {
		if _, err := position(file, 4); err == nil {
			t.Errorf("%q has a place", file)
		}
	}
	if _, err := position("b.000001", longestFile+1); !cdc.IsGap(err) {
		t.Errorf("%v, want a gap", err)
	}
}

func TestTransactionThatACrashCutShortIsForgotten(t *testing.T) {
	w := &logWriter{}
	a := reader(cdc.Position{}, false)
	feedAll(t, a, append(w.begin("binlog.000001"), w.gtid(1), w.query("BEGIN"), w.table(9, "orders"), w.insert(9, 1))...)
	events := feedAll(t, a, w.begin("binlog.000002")...)
	if last := events[len(events)-1]; last.Position != a.at.LSN || last.Through != (cdc.TxID{}) {
		t.Errorf("the next file shows %+v", last)
	}
	events = feedAll(t, a, [][]byte{w.gtid(1), w.query("BEGIN"), w.table(9, "orders"), w.insert(9, 2), w.xid()}...)
	if list := transactions(events); len(list) != 1 || len(list[0].Changes) != 1 {
		t.Errorf("%+v", list)
	}
}

func TestBrokenStreamsAreErrors(t *testing.T) {
	w := &logWriter{summed: true}
	type made = func() []byte
	gtid := func(n uint64) made { return func() []byte { return w.gtid(n) } }
	query := func(text string) made { return func() []byte { return w.query(text) } }
	table, insert := func() []byte { return w.table(9, "orders") }, func() []byte { return w.insert(9, 1) }
	event := func(kind eventKind, body []byte) made { return func() []byte { return w.event(kind, body) } }
	damaged := func(event []byte) []byte {
		event = slices.Clone(event)
		event[headerSize+2] ^= 1
		return event
	}
	for name, test := range map[string]struct {
		events []made
		words  string
		gap    bool
		setup  bool
	}{
		"a transaction within another":        {[]made{gtid(1), gtid(2)}, "begins within", false, false},
		"rows of a table that is not told of": {[]made{gtid(1), insert}, "id 9", false, false},
		"rows of a table of another group":    {[]made{gtid(1), table, w.xid, gtid(2), insert}, "id 9", false, false},
		"rows outside of a transaction":       {[]made{insert}, "outside", false, false},
		"rows after a commit":                 {[]made{gtid(1), query("BEGIN"), w.xid, insert}, "outside", false, false},
		"a damaged event":                     {[]made{func() []byte { return damaged(w.gtid(1)) }}, "checksum", false, false},
		"a damaged format":                    {[]made{func() []byte { return damaged(w.format()) }}, "checksum", false, false},
		"an event that is cut off":            {[]made{func() []byte { return w.gtid(1)[:30] }}, "bytes", false, false},
		"an incident":                         {[]made{event(replication.INCIDENT_EVENT, []byte{1, 0, 0})}, "lacks changes", true, false},
		"an incident in a transaction":        {[]made{gtid(1), event(replication.INCIDENT_EVENT, []byte{1, 0, 0})}, "lacks changes", true, false},
		"a transaction without an id":         {[]made{event(replication.ANONYMOUS_GTID_EVENT, make([]byte, 25))}, "without a GTID", false, true},
		"an event of the future":              {[]made{gtid(1), event(99, nil)}, "does not know", false, true},
		"files that are numbered anew":        {[]made{func() []byte { return w.artificial(replication.ROTATE_EVENT, rotateBody("binlog.000001", 4)) }}, "numbered anew", true, false},
		"the end of an unknown XA":            {[]made{gtid(1), query("XA COMMIT X'31',X'',1")}, "was prepared before", true, false},
	} {
		a := reader(cdc.Position{}, false)
		var err error
		feedAll(t, a, w.begin("binlog.000002")...)
		for _, event := range test.events {
			if _, _, err = a.feed(event()); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), test.words) || cdc.IsGap(err) != test.gap || cdc.IsSetup(err) != test.setup {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := reader(cdc.Position{}, false)
	feedAll(t, a, w.begin("binlog.000002")...)
	future := w.raw(99, nil, 0, flagIgnorable)
	feedAll(t, a, w.gtid(1), future, w.query("BEGIN"), w.xid(), future)
}

// TestWhatWasShownIsNotShownAgain reads a log that we have read before, and some that are not the one that it was.
func TestWhatWasShownIsNotShownAgain(t *testing.T) {
	write := func(w *logWriter, mariadb bool, seq uint64) [][]byte {
		if mariadb {
			return [][]byte{w.mariadbGTID(seq, 0), w.table(9, "orders"), w.insert(9, byte(seq)), w.xid()}
		}
		return [][]byte{w.gtid(seq), w.query("BEGIN"), w.table(9, "orders"), w.insert(9, byte(seq)), w.xid()}
	}
	for _, mariadb := range []bool{false, true} {
		first, again := &logWriter{server: 5}, &logWriter{server: 5}
		a := reader(cdc.Position{}, mariadb)
		feedAll(t, a, append(first.begin("b.000001"), append(write(first, mariadb, 1), write(first, mariadb, 2)...)...)...)
		b := reader(a.at, mariadb)
		events := append(again.begin("b.000001"), append(write(again, mariadb, 1), write(again, mariadb, 2)...)...)
		if got := feedAll(t, b, events...); len(got) > 0 {
			t.Errorf("mariadb %t: %+v", mariadb, got)
		}
		if got := transactions(feedAll(t, b, write(again, mariadb, 3)...)); len(got) != 1 || got[0].ID.Seq != 3 {
			t.Errorf("mariadb %t: %+v", mariadb, got)
		}
		c := reader(a.at, mariadb)
		other := &logWriter{server: 5}
		feedAll(t, c, other.begin("b.000001")...)
		var err error
		for _, event := range write(other, mariadb, 9) {
			if _, _, err = c.feed(event); err != nil {
				break
			}
		}
		if !cdc.IsGap(err) {
			t.Errorf("mariadb %t: %v, want a gap: another transaction is where we have read", mariadb, err)
		}
	}
}

func prepareBody(xid string) []byte {
	body := append([]byte{0, 1, 0, 0, 0, byte(len(xid)), 0, 0, 0, 0, 0, 0, 0}, xid...)
	return body
}

func TestPreparedTransactionsAreReadAgain(t *testing.T) {
	w := &logWriter{}
	a := reader(cdc.Position{}, false)
	preparation := func(w *logWriter) [][]byte {
		return append(w.begin("b.000001"), w.gtid(1), w.query("XA START X'78',X'',1"), w.table(9, "orders"), w.insert(9, 1), w.query("XA END X'78',X'',1"),
			w.event(replication.XA_PREPARE_LOG_EVENT, prepareBody("x")))
	}
	feedAll(t, a, preparation(w)...)
	events := feedAll(t, a, w.gtid(2), w.query("BEGIN"), w.table(9, "orders"), w.insert(9, 2), w.xid())
	if at := a.at; at.Resume == nil || at.Resume.String() != ownSource+":2" || at.Shown.String() != ownSource+":1-2" || len(transactions(events)) != 1 {
		t.Fatalf("%+v, %+v", at, events)
	}
	b, again := reader(a.at, false), &logWriter{}
	if got := feedAll(t, b, preparation(again)...); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	events = feedAll(t, b, w.gtid(3), w.query("XA COMMIT X'78',X'',1"))
	list := transactions(events)
	if len(list) != 1 || len(list[0].Changes) != 1 || list[0].ID.Seq != 3 || b.at.Resume != nil {
		t.Errorf("%+v, to be asked for are %v", list, b.at.Resume)
	}
	w = &logWriter{}
	c := reader(cdc.Position{}, false)
	feedAll(t, c, preparation(w)...)
	if got := transactions(feedAll(t, c, w.gtid(3), w.query("XA ROLLBACK X'78',X'',1"))); len(got) > 0 || c.at.Resume != nil {
		t.Errorf("%+v", got)
	}
}

func TestMariaDBIsAskedForWhatFollowsTheLastBeforeAPreparation(t *testing.T) {
	w := &logWriter{server: 5}
	a := reader(cdc.Position{}, true)
	feedAll(t, a, append(w.begin("b.000001"), w.mariadbGTID(1, 0), w.table(9, "orders"), w.insert(9, 1), w.xid())...)
	for _, name := range []string{"x", "y"} {
		feedAll(t, a, w.mariadbGTID(uint64(2+len(a.waiting.list)), 0x40), w.table(9, "orders"), w.insert(9, 5), w.event(replication.XA_PREPARE_LOG_EVENT, prepareBody(name)))
	}
	if got := a.at.Resume.String(); got != "0-5-1" {
		t.Errorf("%s", got)
	}
	feedAll(t, a, w.mariadbGTID(4, 0x80), w.query("XA COMMIT X'78',X'',1"))
	if got := a.at.Resume.String(); got != "0-5-2" {
		t.Errorf("%s", got)
	}
	if got := afterWhat(a.at).String(); got != "0-5-2" {
		t.Errorf("asked for %s", got)
	}
}

// TestRowsOfAPreparationAreNotLostToALaterWatch has a table put on the list between XA PREPARE and XA COMMIT.
func TestRowsOfAPreparationAreNotLostToALaterWatch(t *testing.T) {
	w := &logWriter{}
	a := reader(cdc.Position{}, false)
	a.current = func() *watched { return &watched{} }
	feedAll(t, a, append(w.begin("b.000001"), w.gtid(1), w.query("XA START X'78',X'',1"), w.table(9, "orders"), w.insert(9, 1),
		w.event(replication.XA_PREPARE_LOG_EVENT, prepareBody("x")))...)
	a.current = reader(cdc.Position{}, false).current
	list := transactions(feedAll(t, a, w.gtid(2), w.query("XA COMMIT X'78',X'',1")))
	if len(list) != 1 || len(list[0].Touched) != 1 || list[0].Touched[0] != (cdc.Touched{Table: 7}) {
		t.Errorf("%+v", list)
	}
}

func TestRolledBackGroupGivesNoRows(t *testing.T) {
	w := &logWriter{}
	a := reader(cdc.Position{}, false)
	list := transactions(feedAll(t, a, append(w.begin("b.000001"), w.gtid(1), w.query("BEGIN"), w.table(9, "orders"), w.insert(9, 1), w.query("ROLLBACK"))...))
	if len(list) != 1 || len(list[0].Changes) != 0 || len(list[0].Touched) != 1 || !strings.Contains(list[0].Touched[0].Reason, "rolled back") {
		t.Errorf("%+v", list)
	}
}

// payloadOf compresses the events of a transaction as a server does.
func payloadOf(t *testing.T, size int, events ...[]byte) []byte {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(events...)
	if size < 0 {
		size = len(all)
	}
	body := []byte{replication.OTW_PAYLOAD_COMPRESSION_TYPE_FIELD, 1, replication.ZSTD, replication.OTW_PAYLOAD_UNCOMPRESSED_SIZE_FIELD, 9, 0xfe}
	body = binary.LittleEndian.AppendUint64(body, uint64(size))
	return encoder.EncodeAll(all, append(body, replication.OTW_PAYLOAD_HEADER_END_MARK))
}

func TestCompressedTransactionIsTheSame(t *testing.T) {
	w, inner := &logWriter{summed: true}, &logWriter{}
	events := [][]byte{inner.query("BEGIN"), inner.table(9, "orders"), inner.insert(9, 1, 2), inner.xid()}
	a := reader(cdc.Position{}, false)
	list := transactions(feedAll(t, a, append(w.begin("b.000001"), w.gtid(1), w.event(replication.TRANSACTION_PAYLOAD_EVENT, payloadOf(t, -1, events...)))...))
	plain := &logWriter{summed: true}
	b := reader(cdc.Position{}, false)
	want := transactions(feedAll(t, b, append(plain.begin("b.000001"), plain.gtid(1), plain.query("BEGIN"), plain.table(9, "orders"), plain.insert(9, 1, 2), plain.xid())...))
	if len(list) != 1 || len(want) != 1 || len(list[0].Changes) != 2 || list[0].Changes[1].Row.Digest != want[0].Changes[1].Row.Digest {
		t.Errorf("%+v, want %+v", list, want)
	}
	if end, _ := position("b.000001", w.offset); list[0].End != end {
		t.Errorf("it ends at %v, want %v", list[0].End, end)
	}
	for name, body := range map[string][]byte{
		"longer than it says":  payloadOf(t, 60, events...),
		"shorter than it says": payloadOf(t, 6000, events...),
		"cut off":              payloadOf(t, -1, events...)[:60],
		"within another":       payloadOf(t, -1, inner.event(replication.TRANSACTION_PAYLOAD_EVENT, payloadOf(t, -1, events...))),
		"of an unknown kind":   {replication.OTW_PAYLOAD_COMPRESSION_TYPE_FIELD, 1, 7, 0},
		"without data":         {},
	} {
		c := reader(cdc.Position{}, false)
		w := &logWriter{}
		feedAll(t, c, append(w.begin("b.000001"), w.gtid(1))...)
		if _, _, err := c.feed(w.event(replication.TRANSACTION_PAYLOAD_EVENT, body)); err == nil {
			t.Errorf("a payload that is %s is taken", name)
		}
	}
}

func TestIDsOfTransactionsAreAsTheServerWritesThem(t *testing.T) {
	h := &header{seconds: 1700000000, serverID: 101}
	n := names{}
	old := binary.LittleEndian.AppendUint64(append([]byte{0}, ownUUID[:]...), 7)
	timed := append(append(slices.Clone(old), 2), make([]byte, 16)...)
	here := binary.LittleEndian.AppendUint64(nil, 1700000005_000001)[:7]
	there := binary.LittleEndian.AppendUint64(nil, 1700000001_000002)[:7]
	flagged := slices.Clone(here)
	flagged[6] |= 0x80
	for name, test := range map[string]struct {
		body []byte
		want int64
	}{
		"without a time":            {old, 1700000000_000000},
		"committed here":            {append(slices.Clone(timed), here...), 1700000005_000001},
		"committed elsewhere":       {append(append(slices.Clone(timed), flagged...), there...), 1700000001_000002},
		"committed before 8.0 knew": {append(append(slices.Clone(timed), flagged...), make([]byte, 7)...), 1700000000_000000},
	} {
		g, err := n.parseGTID(h, test.body)
		if err != nil || g.id != (cdc.TxID{Source: ownSource, Seq: 7}) || g.time.UnixMicro() != test.want {
			t.Errorf("%s: %v at %v: %v", name, g.id, g.time, err)
		}
	}
	tagged := []byte{2 << 1, 40 << 1, 0, 0 << 1, 1 << 1, 1 << 1}
	for _, b := range ownUUID { // a byte above 127 takes two
		if b < 0x80 {
			tagged = append(tagged, b<<1)
		} else {
			tagged = append(tagged, b<<2|1, b>>6)
		}
	}
	tagged = append(tagged, 2<<1, 9<<2, 3<<1, 2<<1, 'D', 'b', 4<<1, 0, 5<<1, 0, 6<<1, 0xff)
	tagged = binary.LittleEndian.AppendUint64(tagged, 1700000009_000003)
	g, err := n.parseTagged(h, tagged)
	if err != nil || g.id.String() != ownSource+":db:9" || g.time.UnixMicro() != 1700000009_000003 {
		t.Errorf("%v at %v: %v", g.id, g.time, err)
	}
	for i := range tagged[:30] {
		if _, err := n.parseTagged(h, tagged[:i]); err == nil {
			t.Errorf("a tagged event of %d bytes is taken", i)
		}
	}
	g, err = n.parseMariaDBGTID(h, []byte{9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1})
	if err != nil || g.id != cdc.MariaDBTxID(3, 101, 9) || !g.standalone {
		t.Errorf("%+v: %v", g, err)
	}
}

func TestRefusalsOfAServerAreToldApart(t *testing.T) {
	for said, want := range map[string]string{
		"Cannot replicate because the source purged required binary logs.":                                      "gap",
		"Could not find first log file name in binary log index file":                                           "gap",
		"Could not find GTID state requested by slave in any binlog files. Probably the slave state is too old": "gap",
		"Error: connecting slave requested to start from GTID 0-1-5, which is not in the master's binlog":       "gap",
		"Slave has more GTIDs than the master has, using the master's SERVER_UUID.":                             "gap",
		"Client requested source to start replication from position > file size":                                "gap",
		"bogus data in log event; the first event 'binlog.000001' at 4":                                         "gap",
		"A replica with the same server_uuid/server_id as this replica has connected to the source":             "",
		"The replication sender thread cannot start in AUTO_POSITION mode: this server has GTID_MODE = OFF":     "setup",
		"Binary log is not open": "setup",
		"log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source": "setup",
	} {
		err := (&session{}).judge(refusalOf(errFatalReading, said))
		kind := map[bool]string{cdc.IsGap(err): "gap", cdc.IsSetup(err): "setup"}[true]
		if kind != want {
			t.Errorf("%s: %q, want %q", said, kind, want)
		}
		hole, setup := new(cdc.GapError), new(cdc.SetupError)
		if errors.As(err, &hole) && hole.Hint == "" || errors.As(err, &setup) && setup.Hint == "" {
			t.Errorf("%s: no hint", said)
		}
	}
	if err := (&session{account: "'l'@'%'"}).judge(refusalOf(errPrivilegeMissing, "Access denied")); !cdc.IsSetup(err) || !strings.Contains(err.Error(), "GRANT REPLICATION SLAVE ON *.* TO 'l'@'%';") {
		t.Errorf("%v", err)
	}
}

func TestStateOfABusyLogIsReadOnlyIfItIsClear(t *testing.T) {
	for _, test := range []struct {
		before, after string
		want          bool
	}{
		{"", "", true}, {"0-1-5", "0-1-9", true}, {"0-1-5 0-2-7", "0-1-5 0-2-8", true}, {"0-1-5 1-2-7", "0-1-6 1-2-8", true},
		{"0-1-5 0-2-7", "0-1-6 0-2-8", false}, {"0-1-5", "0-1-6 0-2-7", false}, {"", "0-1-1", true},
	} {
		if got := oneEach(strings.Fields(test.before), strings.Fields(test.after)); got != test.want {
			t.Errorf("from %q to %q: %t", test.before, test.after, got)
		}
	}
}

// FuzzFeed gives the assembler events of any contents: it must not panic, nor go on after an error as if nothing was.
func FuzzFeed(f *testing.F) {
	w := &logWriter{}
	seeds := append(w.begin("b.000001"), w.gtid(1), w.query("BEGIN"), w.table(9, "orders"), w.insert(9, 1), w.query("SAVEPOINT s"), w.xid(),
		w.mariadbGTID(3, 1), w.query("DROP TABLE orders"), w.gtid(4), w.event(replication.XA_PREPARE_LOG_EVENT, prepareBody("x")),
		w.event(replication.GTID_TAGGED_LOG_EVENT, []byte{2, 4, 6, 8}), w.event(replication.TRANSACTION_PAYLOAD_EVENT, []byte{3, 1, 5, 2, 1, 255, 0, 1, 2, 3, 4, 5}))
	var all []byte
	for _, event := range seeds {
		all = append(all, event[4], byte(len(event)-headerSize))
		all = append(all, event[headerSize:]...)
	}
	f.Add(all, false)
	f.Add(all, true)
	f.Fuzz(func(t *testing.T, data []byte, mariadb bool) {
		a := reader(cdc.Position{}, mariadb)
		w := &logWriter{}
		for len(data) >= 2 {
			n := min(int(data[1]), len(data)-2)
			event := w.event(eventKind(data[0]), data[2:2+n])
			data = data[2+n:]
			before := a.at.LSN
			e, something, err := a.feed(event)
			if err != nil {
				return
			}
			if something && e.Position < before {
				t.Errorf("the position goes back from %v to %v", before, e.Position)
			}
			if tx := e.Transaction; tx != nil && (tx.ID.IsZero() || tx.Commit >= tx.End) {
				t.Errorf("%+v", tx)
			}
			for _, touched := range a.group.touched {
				if touched.Fault != nil {
					t.Fatal(touched.Reason)
				}
			}
		}
	})
}

func refusalOf(code uint16, message string) error {
	return &wire.MyError{Code: code, Message: message}
}

// A decoder that panics for a table puts that one in doubt, and says so; the transaction is read on.
func TestPanicOfADecoderTouchesItsTableOnly(t *testing.T) {
	w := &logWriter{summed: true}
	a := reader(cdc.Position{}, false)
	feedAll(t, a, append(w.begin("binlog.000003"), w.gtid(5), w.query("BEGIN"), w.table(9, "orders"), w.insert(9, 1))...)
	for _, m := range a.maps {
		m.plan.columns[0].read = func(*planColumn, *digest.Encoder, []byte) error { var none []int; none[3]++; return nil }
	}
	list := transactions(feedAll(t, a, w.insert(9, 2), w.xid()))
	if len(list) != 1 || len(list[0].Changes) != 0 || len(list[0].Touched) != 1 {
		t.Fatalf("%+v", list)
	}
	if touched := list[0].Touched[0]; touched.Fault == nil || !strings.Contains(touched.Reason, "index out of range [3]") {
		t.Errorf("touched is %+v", touched)
	}
	list = transactions(feedAll(t, a, w.gtid(6), w.query("BEGIN"), w.table(10, "orders"), w.insert(10, 3), w.xid()))
	if len(list) != 1 || len(list[0].Changes) != 1 {
		t.Errorf("what follows is %+v", list)
	}
}

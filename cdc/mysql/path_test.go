package mysql

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/store"
)

// stretch is a binlog file of a real server: what a mixed load wrote, and the rows from before it.
type stretch struct {
	path    string
	name    string // of the file, as the server calls it
	events  [][]byte
	mariadb bool
	source  *Source
	from    cdc.Position
	tables  []cdc.Table
	epochs  []cdc.Epoch
	rows    map[cdc.TableID][][2][]byte // key and stored row
}

const benchSchema = `
CREATE TABLE accounts (id bigint PRIMARY KEY, owner varchar(100) NOT NULL, balance decimal(14,2) NOT NULL, seen timestamp(6) NOT NULL DEFAULT current_timestamp(6), flags int unsigned NOT NULL DEFAULT 0);
CREATE TABLE orders (id bigint PRIMARY KEY, account bigint NOT NULL, state enum('new','paid','sent') NOT NULL, note text, placed datetime NOT NULL, weight double);
CREATE TABLE stock (warehouse varchar(20), item int, quantity int NOT NULL, checked date, code binary(8), PRIMARY KEY (warehouse, item));
INSERT INTO accounts SELECT seq.n, CONCAT('owner ', seq.n), seq.n MOD 1000, '2026-01-01 00:00:00', 0 FROM (WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 1000) SELECT a.n + 1000 * (b.n - 1) n FROM s a JOIN s b WHERE b.n <= 10) seq;
INSERT INTO orders SELECT id, id, 'new', REPEAT('note ', id MOD 40), '2026-01-01 00:00:00', id / 7 FROM accounts;
INSERT INTO stock SELECT CONCAT('w', id MOD 20), id, 10, '2026-01-01', UNHEX('0102030000000000') FROM accounts WHERE id <= 4000;`

// record writes the load in small and large transactions and takes the file.
func record(b *testing.B, flavour dbtest.Flavour) *stretch {
	b.Helper()
	server := dbtest.StartMySQLT(b, dbtest.NeedMySQL(b, flavour), dbtest.Options{Database: "app", Conf: map[string]string{"max_binlog_size": "1073741824"}})
	return recordOn(b, server)
}

func recordOn(b *testing.B, server *dbtest.MySQLServer) *stretch {
	b.Helper()
	ctx := b.Context()
	dbtest.ExecT(b, server, benchSchema, "FLUSH BINARY LOGS")
	source, err := New(Options{Group: "bench", Member: "eu-1", DSN: server.DSN("app")}, scanHasher)
	fatal(b, err)
	b.Cleanup(source.Close)
	c := &stretch{source: source, mariadb: server.Install.Flavour.MariaDB(), rows: make(map[cdc.TableID][][2][]byte)}
	c.from, err = source.Prepare(ctx, cdc.Position{})
	fatal(b, err)
	c.tables, err = source.Tables(ctx, func(string) bool { return true })
	fatal(b, err)
	for i, t := range c.tables {
		c.epochs = append(c.epochs, cdc.Epoch{Table: cdc.TableID(i + 1), Number: 1, Shape: shapeOfTable(t)})
		source.SetEpoch(t, c.epochs[i])
	}
	source.begin(c.from)
	snapshot, err := source.Snapshot(ctx)
	fatal(b, err)
	for i, t := range c.tables {
		fatal(b, snapshot.Rows(ctx, t, c.epochs[i], func(k digest.Key, r *digest.Row) error {
			id := c.epochs[i].Table
			c.rows[id] = append(c.rows[id], [2][]byte{bytes.Clone(k), digest.AppendRow(nil, r)})
			return nil
		}))
	}
	snapshot.Close()
	writeMixed(b, server)
	dbtest.ExecT(b, server, "FLUSH BINARY LOGS") // the header of the file that is being written is marked so
	status, err := dbtest.MySQLRows[string](ctx, server, "SELECT @@log_bin_basename")
	fatal(b, err)
	logs, err := server.Show(ctx, "SHOW BINARY LOGS")
	fatal(b, err)
	c.name = logs[len(logs)-2]["Log_name"]
	c.path = filepath.Join(filepath.Dir(status[0]), c.name)
	raw := replication.NewBinlogParser()
	raw.SetRawMode(true)
	fatal(b, raw.ParseFile(c.path, 4, func(e *replication.BinlogEvent) error {
		c.events = append(c.events, bytes.Clone(e.RawData))
		return nil
	}))
	return c
}

func shapeOfTable(t cdc.Table) digest.Shape {
	shape := digest.Shape{Table: t.Name, Columns: t.Columns}
	for _, k := range t.Key {
		for n, column := range t.Columns {
			if column.Name == k {
				shape.Key = append(shape.Key, n)
			}
		}
	}
	return shape
}

func writeMixed(b *testing.B, server *dbtest.MySQLServer) {
	conn, err := server.Conn(b.Context())
	fatal(b, err)
	defer conn.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	exec := func(format string, args ...any) {
		b.Helper()
		_, err := conn.Execute(fmt.Sprintf(format, args...))
		fatal(b, err)
	}
	one := func() {
		switch id := 1 + rnd.IntN(20_000); rnd.IntN(8) {
		case 0:
			exec("INSERT INTO accounts (id, owner, balance) VALUES (%d, 'somebody %d', %d.5) ON DUPLICATE KEY UPDATE balance = VALUES(balance)", id, rnd.Uint32(), id)
		case 1, 2:
			exec("UPDATE accounts SET balance = balance + 1, seen = current_timestamp(6), flags = flags + 1 WHERE id = %d", id)
		case 3:
			exec("DELETE FROM accounts WHERE id = %d", id)
		case 4:
			exec("UPDATE orders SET state = 'paid', weight = weight * 1.1 WHERE id = %d", id)
		case 5:
			exec("REPLACE INTO orders VALUES (%d, %d, 'sent', REPEAT('%x ', %d), current_timestamp(), %d.25)", id, id, rnd.Uint32(), rnd.IntN(60), id)
		case 6:
			exec("UPDATE stock SET quantity = %d, checked = current_date() WHERE item = %d", rnd.IntN(1000), 1+id%4000)
		case 7:
			exec("UPDATE IGNORE orders SET id = id + 1000000 WHERE id = %d", id)
		}
	}
	for n := range 6000 {
		exec("BEGIN")
		for range 1 + rnd.IntN(4) {
			one()
		}
		if n%200 == 0 { // the larger, the rarer: they write more rows than all others
			from := rnd.IntN(8000)
			exec("UPDATE accounts SET balance = balance + 1 WHERE id BETWEEN %d AND %d", from, from+4000)
		}
		exec("COMMIT")
	}
}

func fatal(b *testing.B, err error) {
	if err != nil {
		b.Helper()
		b.Fatal(err)
	}
}

// assembler begins to read the file as a stream would: the server tells its name first.
func (c *stretch) assembler(b *testing.B) *assembler {
	a := newAssembler(c.from, scanHasher)
	a.current, a.passed, a.fold, a.mariadb = c.source.list.load, func(cdc.Event) {}, func() bool { return false }, c.mariadb
	rotate := make([]byte, 19, 64)
	rotate[4] = byte(replication.ROTATE_EVENT)
	rotate = append(binary.LittleEndian.AppendUint64(rotate, 4), c.name...)
	binary.LittleEndian.PutUint32(rotate[9:], uint32(len(rotate)))
	rotate[17] = 0x20 // artificial
	_, _, err := a.feed(rotate)
	fatal(b, err)
	return a
}

// group returns a ledger in which the captured tables are live, and compared if there are two members. Its store is in
// memory if that can be had: how long a shared disk takes to sync is not what is measured.
func (c *stretch) group(b *testing.B, members int) (*store.Group, *align.Ledger, func()) {
	b.Helper()
	dir, err := os.MkdirTemp(dbtest.MemoryDir(), "lockstep-bench-")
	fatal(b, err)
	st, err := store.Open(dir, store.Options{})
	fatal(b, err)
	g, err := st.Group("bench")
	fatal(b, err)
	names := make(map[cdc.MemberID]string)
	for _, name := range []string{"eu-1", "us-1"} {
		id, err := g.MemberID(name)
		fatal(b, err)
		names[id] = name
	}
	saved, err := g.Load()
	fatal(b, err)
	l, err := align.Load(align.Options{
		Group: "bench", Members: names, Reference: 1, Budget: func(string) time.Duration { return time.Hour },
		Hasher: scanHasher, NewID: func(time.Time) string { return "x" },
	}, g, saved)
	fatal(b, err)
	lane := cdc.Lane{Name: cdc.GTIDLane, Title: "replication", Enabled: true, Tables: make(map[string]string)}
	for _, e := range c.epochs {
		lane.Tables[e.Shape.Table] = ""
		fatal(b, l.SetEpoch(e, map[cdc.MemberID]string{}, "new"))
	}
	for id := cdc.MemberID(1); id <= cdc.MemberID(members); id++ {
		fatal(b, l.Unverify(id, c.from.Clone(), cdc.Server{SystemID: fmt.Sprint(id)}, "new"))
		said := cdc.Progress{Applied: map[string]cdc.TxSet{cdc.GTIDLane: c.from.Shown}, Lanes: []cdc.Lane{lane}}
		fatal(b, l.Progress(id, time.Now(), said, map[string]cdc.TxSet{}))
		for _, due := range l.Wanted(id) {
			at := due.At
			l.Scanning(at)
			c.fill(b, g, l, at)
		}
		_, err := l.Replay()
		fatal(b, err)
	}
	fatal(b, l.Tick())
	fatal(b, l.Flush())
	fatal(b, g.Commit())
	return g, l, func() {
		fatal(b, g.Close())
		fatal(b, st.Close())
		fatal(b, os.RemoveAll(dir))
	}
}

func (c *stretch) fill(b *testing.B, g *store.Group, l *align.Ledger, at align.Space) {
	loader, err := g.Loader(at, false)
	fatal(b, err)
	for _, row := range c.rows[at.Table] {
		fatal(b, loader.Add(row[0], row[1]))
	}
	fatal(b, loader.Close())
	bounds, _ := l.Freeze(at)
	bounds, sums, err := loader.Sum(bounds, bounds == nil, l.RangeRows())
	fatal(b, err)
	fatal(b, l.Loaded(at, 0, bounds, sums))
}

// BenchmarkBinlogFile takes a stored binlog of a mixed load from bytes to digested transactions, to a committed store of
// one member, and to one of two members whose binlogs have the same and are compared. "go-mysql" is what the library
// takes to parse the same file into values. An operation is the whole file; rows/s counts the row changes in it.
func BenchmarkBinlogFile(b *testing.B) {
	for _, flavour := range flavours {
		b.Run(flavour.String(), func(b *testing.B) {
			c := record(b, flavour)
			rows := 0
			c.read(b, func(tx *cdc.Transaction) { rows += len(tx.Changes) })
			perSecond := func(b *testing.B, n int) {
				b.ReportMetric(float64(n*rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			}
			b.Run("go-mysql", func(b *testing.B) {
				for b.Loop() {
					fatal(b, replication.NewBinlogParser().ParseFile(c.path, 4, func(*replication.BinlogEvent) error { return nil }))
				}
				perSecond(b, 1)
			})
			b.Run("decode-and-digest", func(b *testing.B) {
				for b.Loop() {
					c.read(b, func(*cdc.Transaction) {})
				}
				perSecond(b, 1)
			})
			for members := 1; members <= 2; members++ {
				b.Run(fmt.Sprintf("whole/members-%d", members), func(b *testing.B) {
					for range b.N {
						b.StopTimer()
						g, l, closeAll := c.group(b, members)
						b.StartTimer()
						c.whole(b, g, l, members)
						b.StopTimer()
						c.verify(b, l, members)
						closeAll()
						b.StartTimer()
					}
					perSecond(b, members)
				})
			}
		})
	}
}

// read feeds the file, read from disk as the library reads it, to an assembler.
func (c *stretch) read(b *testing.B, yield func(*cdc.Transaction)) {
	a := c.assembler(b)
	raw := replication.NewBinlogParser()
	raw.SetRawMode(true)
	fatal(b, raw.ParseFile(c.path, 4, func(e *replication.BinlogEvent) error {
		event, ok, err := a.feed(e.RawData)
		if err == nil && ok && event.Transaction != nil {
			yield(event.Transaction)
		}
		return err
	}))
}

// whole decodes in one goroutine and applies in another, as the monitor does.
func (c *stretch) whole(b *testing.B, g *store.Group, l *align.Ledger, members int) {
	decoded := make(chan *cdc.Transaction, 512)
	go func() {
		defer close(decoded)
		c.read(b, func(tx *cdc.Transaction) { decoded <- tx })
	}()
	for tx := range decoded {
		for id := range cdc.MemberID(members) {
			fatal(b, l.Apply(id+1, cdc.Event{Position: tx.End, Through: tx.ID, Transaction: tx}))
		}
		if g.Uncommitted() > 4<<20 {
			fatal(b, l.Flush())
			fatal(b, g.Commit())
		}
	}
	fatal(b, l.Flush())
	fatal(b, g.Commit())
}

func (c *stretch) verify(b *testing.B, l *align.Ledger, members int) {
	for _, m := range l.Status(false)[:members] {
		for _, t := range m.Tables {
			if !t.Live || t.DivergentKeys != 0 {
				b.Fatalf("%s %s: %s, %d keys differ", m.Name, t.Table, t.Reason, t.DivergentKeys)
			}
		}
	}
}

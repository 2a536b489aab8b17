package mysql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// tail reads a server's stream piece by piece, so that each piece is a resumption of its own.
type tail struct {
	*Source
	t       *testing.T
	server  *dbtest.MySQLServer
	schema  string // a database of its own
	tables  map[cdc.TableID]cdc.Table
	epochs  map[cdc.TableID]cdc.Epoch
	at      cdc.Position
	through map[cdc.TxID]int         // how often each was shown
	rows    map[string]digest.Digest // what the changes add up to, by table and key
	times   map[cdc.TxID]time.Time
	started int // how often MariaDB was, by what its log shows
}

var schemas atomic.Int64

// tailOf makes a database with the tables a and b, and a source that begins after that.
func tailOf(t *testing.T, server *dbtest.MySQLServer, statements ...string) *tail {
	t.Helper()
	m := &tail{
		Source: probe(t, server, ""), t: t, server: server, schema: fmt.Sprintf("tail_%d", schemas.Add(1)),
		tables: map[cdc.TableID]cdc.Table{}, epochs: map[cdc.TableID]cdc.Epoch{},
		through: map[cdc.TxID]int{}, rows: map[string]digest.Digest{}, times: map[cdc.TxID]time.Time{},
	}
	run(t, server, "CREATE DATABASE "+m.schema)
	t.Cleanup(func() { // as far as it can: the server may be down, or keep locks for a transaction that a failed test left
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Exec(ctx, "DROP DATABASE IF EXISTS "+m.schema)
	})
	m.do("CREATE TABLE a (id int PRIMARY KEY, n int, note varchar(300))", "CREATE TABLE b (id int PRIMARY KEY, n int, note varchar(300))")
	m.do(statements...)
	m.learn(1)
	m.restart()
	return m
}

// learn reads the definitions and gives every table of its own an epoch.
func (m *tail) learn(number uint32) {
	m.t.Helper()
	tables, err := m.Tables(m.t.Context(), func(name string) bool { return strings.HasPrefix(name, m.schema+".") })
	if err != nil {
		m.t.Fatal(err)
	}
	for i, t := range tables {
		if t.Problem != "" {
			continue
		}
		e := epochOf(t)
		e.Table, e.Number = cdc.TableID(i+1), number
		m.tables[e.Table], m.epochs[e.Table] = t, e
		m.SetEpoch(t, e)
	}
}

// restart begins anew, after all that the server has done.
func (m *tail) restart() {
	m.t.Helper()
	at, err := m.Prepare(m.t.Context(), cdc.Position{})
	if err != nil {
		m.t.Fatal(err)
	}
	m.at = at
}

// do runs statements in one session in the tail's database.
func (m *tail) do(statements ...string) {
	m.t.Helper()
	if err := m.server.Exec(m.t.Context(), append([]string{"USE " + m.schema}, statements...)...); err != nil {
		m.t.Fatal(err)
	}
}

// session opens a session in the tail's database.
func (m *tail) session() *client.Conn {
	m.t.Helper()
	c, err := m.server.Conn(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = c.Close() }) // a test may have killed it
	exec(m.t, c, "USE "+m.schema)
	return c
}

func exec(t *testing.T, c *client.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := c.Execute(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

var errEnough = errors.New("that is enough")

// tryRead reads to the end of the log as it is now and returns what the transactions did.
func (m *tail) tryRead() ([]string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	p, err := m.Progress(ctx)
	if err != nil {
		return nil, err
	}
	if m.at, err = m.Prepare(ctx, m.at); err != nil {
		return nil, err
	}
	if m.at.LSN >= p.Barrier {
		return nil, nil
	}
	var done []string
	err = m.Stream(ctx, m.at, func(e cdc.Event) error {
		if tx := m.take(e); tx != "" {
			done = append(done, tx)
		}
		if m.at.LSN >= p.Barrier {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return done, err
}

// read is tryRead of what must succeed.
func (m *tail) read() []string {
	m.t.Helper()
	done, err := m.tryRead()
	if err != nil {
		m.t.Fatal(err)
	}
	return done
}

// want reads and compares what the transactions did.
func (m *tail) want(want ...string) {
	m.t.Helper()
	if diff := cmp.Diff(want, m.read()); diff != "" {
		m.t.Errorf("-want +got\n%s", diff)
	}
}

// take applies an event and prints it.
func (m *tail) take(e cdc.Event) string {
	if !e.Through.IsZero() {
		if m.at.Shown.Contains(e.Through) {
			m.t.Errorf("%v was shown already", e.Through)
		}
		m.through[e.Through]++
	}
	if e.Position < m.at.LSN {
		m.t.Errorf("the position goes back from %v to %v", m.at.LSN, e.Position)
	}
	before := m.at.LSN
	m.at.Pass(e)
	if e.Started {
		m.started++
	}
	tx := e.Transaction
	if tx == nil {
		return ""
	}
	if tx.ID != e.Through || tx.Lane != cdc.GTIDLane || tx.Commit < before || tx.Commit >= tx.End || tx.End != e.Position {
		m.t.Errorf("after %v: %+v in %+v", before, tx, e)
	}
	m.times[tx.ID] = tx.CommitTime
	var did []string
	for _, c := range tx.Changes {
		did = append(did, m.apply(c))
	}
	for _, touched := range tx.Touched {
		_, table, _ := strings.Cut(m.tables[touched.Table].Name, ".")
		did = append(did, "touched "+table+": "+touched.Reason)
	}
	return strings.Join(did, "; ")
}

func (m *tail) apply(c cdc.Change) string {
	_, table, _ := strings.Cut(m.tables[c.Table].Name, ".")
	if c.Epoch != m.epochs[c.Table].Number {
		m.t.Errorf("change of epoch %d, want %d", c.Epoch, m.epochs[c.Table].Number)
	}
	key := func(k digest.Key) string {
		text, err := m.epochs[c.Table].Shape.KeyJSON(k)
		if err != nil {
			m.t.Error(err)
		}
		return strings.TrimSuffix(strings.TrimPrefix(string(text), `{"id":`), "}")
	}
	switch c.Op {
	case cdc.Truncate:
		maps.DeleteFunc(m.rows, func(name string, _ digest.Digest) bool { return strings.HasPrefix(name, table+" ") })
		return "truncate " + table
	case cdc.Delete:
		delete(m.rows, table+" "+key(c.Key))
		return "delete " + table + " " + key(c.Key)
	case cdc.Insert:
		m.rows[table+" "+key(c.Key)] = c.Row.Digest
		return "insert " + table + " " + key(c.Key)
	}
	did := "update " + table + " " + key(c.Key)
	if c.OldKey != nil {
		did += " was " + key(c.OldKey)
		delete(m.rows, table+" "+key(c.OldKey))
	}
	m.rows[table+" "+key(c.Key)] = c.Row.Digest
	return did
}

// same checks that all changes add up to what the server has.
func (m *tail) same() {
	m.t.Helper()
	v := view(m.t, m.Source)
	has := map[string]digest.Digest{}
	for id, t := range m.tables {
		_, table, _ := strings.Cut(t.Name, ".")
		err := v.Rows(m.t.Context(), t, m.epochs[id], func(k digest.Key, r *digest.Row) error {
			text, err := m.epochs[id].Shape.KeyJSON(k)
			has[table+" "+strings.TrimSuffix(strings.TrimPrefix(string(text), `{"id":`), "}")] = r.Digest
			return err
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	if diff := cmp.Diff(has, m.rows); diff != "" {
		m.t.Errorf("rows of the server and of its stream differ: -server +stream\n%s", diff)
	}
	for id, times := range m.through {
		if times != 1 {
			m.t.Errorf("%v was shown %d times", id, times)
		}
	}
}

func TestStream(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){
		"rows come as they were changed":                                plainChanges,
		"what was rolled back to a savepoint does not come":             savepoints,
		"all kinds of statements put the right tables in doubt":         statements,
		"transactions of MyISAM end with their commit":                  untransactional,
		"distributed transactions count from their commit on":           distributed,
		"compressed transactions give the same rows":                    compressed,
		"images that are not full put the table in doubt":               partialImages,
		"statements in place of rows put the table in doubt":            statementFormat,
		"an idle log is read to its end, whatever the file":             idleLog,
		"a table without a shape is touched":                            shapeless,
		"a change of the definition puts only its table in doubt":       redefinedTable,
		"columns that a log numbers and nobody has are no panic":        renumberedColumns,
		"other tables may hold what we cannot decode":                   undecodableOthers,
		"ids that the server gives itself are shown once each":          allIDs,
		"a purged log is a gap":                                         purgedLog,
		"a log that was reset is a gap":                                 resetLog,
		"a log with the same ids that is another one is a gap":          rewrittenLog,
		"the same transactions in a log that is begun anew are a gap":   sameAgain,
		"the same transactions on an older state of the disk are a gap": putBack,
		"an older state of the disk without its log is a gap":           putBackAndPurged,
		"a restart of the server leaves no hole":                        restarted,
		"a cut connection loses nothing and doubles nothing":            cutOff,
		"a server that changes its id goes on":                          renumbered,
		"settings that hide rows are refused":                           unfit,
		"a missing privilege is named":                                  unprivileged,
		"large transactions come whole":                                 largeTransaction,
		"a table that is set while it changes is not overlooked":        raced,
	})
}

func plainChanges(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server)
	m.do("INSERT INTO a VALUES (1, 1, 'one'), (2, NULL, NULL)", "UPDATE a SET n = 5 WHERE id = 1", "UPDATE a SET id = 3 WHERE id = 2",
		"DELETE FROM a WHERE id = 1", "REPLACE INTO a VALUES (3, 4, 'x')", "INSERT INTO a VALUES (3, 5, 'y') ON DUPLICATE KEY UPDATE n = 9",
		"BEGIN; INSERT INTO a VALUES (7, 7, ''); INSERT INTO b SELECT * FROM a; DELETE FROM a WHERE id = 7; COMMIT")
	m.want("insert a 1; insert a 2", "update a 1", "update a 3 was 2", "delete a 1", "update a 3", "update a 3",
		"insert a 7; insert b 3; insert b 7; delete a 7")
	m.same()
	m.do("TRUNCATE a", "INSERT INTO a VALUES (1, 2, 'three')", "TRUNCATE TABLE `"+m.schema+"`.`b`")
	m.want("truncate a", "insert a 1", "truncate b")
	m.same()
	m.want()
}

func savepoints(t *testing.T, server *dbtest.MySQLServer) {
	m := tailOf(t, server, "CREATE TABLE my (id int PRIMARY KEY, n int, note varchar(300)) ENGINE = MyISAM")
	m.do("BEGIN; INSERT INTO a VALUES (1, 1, 'x'); SAVEPOINT s1; INSERT INTO a VALUES (2, 2, 'x'); ROLLBACK TO s1; INSERT INTO a VALUES (3, 3, 'x'); COMMIT",
		"BEGIN; INSERT INTO a VALUES (4, 1, 'x'); SAVEPOINT `S 2`; INSERT INTO a VALUES (5, 1, 'x'); RELEASE SAVEPOINT `S 2`; COMMIT",
		"BEGIN; INSERT INTO a VALUES (6, 1, 'x'); ROLLBACK")
	m.want("insert a 1; insert a 3", "insert a 4; insert a 5")
	m.same()
	if !server.Install.Flavour.MariaDB() { // which does not let GTIDs be used with such a mixture
		return
	}
	m.do("BEGIN; INSERT INTO a VALUES (7, 1, 'x'); SAVEPOINT s; INSERT INTO my VALUES (1, 1, 'x'); INSERT INTO a VALUES (8, 1, 'x'); ROLLBACK TO s; COMMIT")
	m.want("insert my 1", "touched a: a part of a transaction that changed it was rolled back, but for tables without transactions")
}

package cdctest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

var exerciseHasher = digest.NewHasher([32]byte{7, 7, 7})

// tail reads a server's stream piece by piece, each of which goes on from the position after the one before. Between two
// pieces the stream stays open and waits, as it does for a receiver that is slow, until the tail rests.
type tail struct {
	t      *testing.T
	driver Driver
	engine Engine
	source cdc.Source
	tables map[string]cdc.Table // a and b
	epochs map[string]cdc.Epoch
	shapes map[cdc.TableID]map[uint32]digest.Shape
	open   *reading // nil: no stream is
	at     cdc.Position
	events []cdc.Event        // since the start
	piece  []*cdc.Transaction // of the piece that is read
	rows   rows               // what the changes since the start add up to
}

// reading is a stream that is open. Its goroutine has the tail from when it is told how far to read until it says that it is
// there.
type reading struct {
	to    chan cdc.LSN
	there chan error // or why the stream ended
	stop  func()
}

var watched = []string{"a", "b"}

// follow begins to read a server's log at its end.
func follow(t *testing.T, s Subject, d Driver) *tail {
	t.Helper()
	x := &tail{t: t, driver: d, engine: s.Engine, shapes: make(map[cdc.TableID]map[uint32]digest.Shape), rows: make(rows)}
	x.reopen()
	x.learn(1)
	start, err := x.source.Prepare(bounded(t), cdc.Position{})
	must(t, err)
	x.at = start
	return x.begin()
}

// begin makes the stream run once: rows can be read by a source whose stream has.
func (x *tail) begin() *tail {
	x.t.Helper()
	must(x.t, x.driver.Noise(x.t.Context()))
	x.read()
	return x
}

// reopen has lockstep start again.
func (x *tail) reopen() {
	x.t.Helper()
	if x.source != nil {
		x.close()
	}
	source, err := x.driver.Open(exerciseHasher)
	must(x.t, err)
	x.source = source
	x.t.Cleanup(func() { x.rest(); source.Close() })
	if x.epochs == nil {
		return
	}
	for name, table := range x.definitions() { // a source decodes by definitions that it has read
		x.source.SetEpoch(table, x.epochs[name])
	}
}

// close ends the stream and the source.
func (x *tail) close() {
	x.rest()
	x.source.Close()
}

// rest ends the stream; the next piece is read by another one.
func (x *tail) rest() {
	if x.open != nil {
		x.open.stop()
		x.open = nil
	}
}

func (x *tail) definitions() map[string]cdc.Table {
	x.t.Helper()
	names := make(map[string]string)
	for _, name := range watched {
		names[x.driver.Name(name)] = name
	}
	list, err := x.source.Tables(bounded(x.t), func(name string) bool { return names[name] != "" })
	must(x.t, err)
	tables := make(map[string]cdc.Table)
	for _, table := range list {
		tables[names[table.Name]] = table
	}
	if len(tables) != len(watched) || len(list) != len(watched) {
		x.t.Fatalf("tables %v, want %v", list, watched)
	}
	return tables
}

// learn reads the definitions and begins epochs of that number with them.
func (x *tail) learn(number uint32) {
	x.t.Helper()
	x.tables, x.epochs = x.definitions(), make(map[string]cdc.Epoch)
	for i, name := range watched {
		table := x.tables[name]
		e := cdc.Epoch{Table: cdc.TableID(i + 1), Number: number, Shape: digest.Shape{Table: table.Name, Columns: table.Columns}}
		for _, k := range table.Key {
			e.Shape.Key = append(e.Shape.Key, slices.IndexFunc(table.Columns, func(c digest.Column) bool { return c.Name == k }))
		}
		if x.shapes[e.Table] == nil {
			x.shapes[e.Table] = make(map[uint32]digest.Shape)
		}
		x.shapes[e.Table][number], x.epochs[name] = e.Shape, e
		x.source.SetEpoch(table, e)
	}
}

// read reads to the end of the log as it is now, and returns the transactions.
func (x *tail) read() []*cdc.Transaction {
	x.t.Helper()
	transactions, err := x.tryRead()
	must(x.t, err)
	return transactions
}

func (x *tail) tryRead() ([]*cdc.Transaction, error) {
	p, err := x.source.Progress(bounded(x.t))
	if err != nil {
		return nil, err
	}
	return x.readTo(p.Barrier)
}

func (x *tail) readTo(end cdc.LSN) ([]*cdc.Transaction, error) {
	ctx := bounded(x.t)
	if x.open == nil {
		from, err := x.source.Prepare(ctx, x.at)
		if err != nil {
			return nil, err
		}
		x.at = from
	}
	if x.at.LSN >= end {
		return nil, nil
	}
	x.piece = nil
	if x.open == nil {
		x.open = x.begun(end)
	} else {
		x.open.to <- end
	}
	var err error
	select {
	case err = <-x.open.there:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return x.piece, nil
	}
	x.rest()
	return x.piece, fmt.Errorf("the stream ended at %v, before %v: %w", x.at.LSN, end, err)
}

// begun opens a stream and begins to read up to end.
func (x *tail) begun(end cdc.LSN) *reading {
	ctx, cancel := context.WithCancel(x.t.Context())
	r := &reading{to: make(chan cdc.LSN), there: make(chan error, 2)} // nobody may wait any more
	var ended sync.WaitGroup
	source, from := x.source, x.at.Clone()
	ended.Go(func() {
		r.there <- source.Stream(ctx, from, func(e cdc.Event) error {
			x.take(e)
			if e.Transaction != nil {
				x.piece = append(x.piece, e.Transaction)
			}
			if x.at.LSN < end {
				return nil
			}
			r.there <- nil
			select {
			case end = <-r.to:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	r.stop = func() { cancel(); ended.Wait() }
	return r
}

// background reads the stream until stop is called, which returns why it ended.
func (x *tail) background() (stop func() error) {
	x.rest()
	ctx, cancel := context.WithCancel(x.t.Context())
	var ended sync.WaitGroup
	var err error
	from := x.at.Clone()
	ended.Go(func() {
		err = x.source.Stream(ctx, from, func(e cdc.Event) error { x.take(e); return nil })
	})
	return func() error {
		cancel()
		ended.Wait()
		return err
	}
}

// take checks an event, and passes it.
func (x *tail) take(e cdc.Event) {
	before := x.at.LSN
	if e.Position < before {
		x.t.Errorf("the position goes back from %v to %v", before, e.Position)
	}
	switch {
	case x.engine == Postgres && e.Through != cdc.TxID{Seq: uint64(e.Position)}:
		x.t.Errorf("%+v is not through its position", e)
	case x.engine != Postgres && !e.Through.IsZero() && x.at.Shown.Contains(e.Through):
		x.t.Errorf("%v was shown already", e.Through)
	}
	x.at.Pass(e)
	x.events = append(x.events, e)
	tx := e.Transaction
	if tx == nil {
		return
	}
	if tx.Commit < before || tx.Commit >= tx.End || tx.End != e.Position || tx.ID.IsZero() || tx.CommitTime.IsZero() {
		x.t.Errorf("after %v: %+v in %+v", before, tx, e)
	}
	if x.engine != Postgres && (tx.ID != e.Through || tx.Lane != cdc.GTIDLane) {
		x.t.Errorf("%+v in %+v", tx, e)
	}
	for _, c := range tx.Changes {
		if err := x.rows.apply(c, true); err != nil {
			x.t.Errorf("%v: %s: %v", tx.ID, x.line(c), err)
		}
	}
}

// script prints transactions, changes apart by semicolons.
func (x *tail) script(transactions []*cdc.Transaction) []string {
	var lines []string
	for _, tx := range transactions {
		var did []string
		for _, c := range tx.Changes {
			did = append(did, x.line(c))
		}
		for _, touched := range tx.Touched {
			did = append(did, "touched "+x.name(touched.Table))
		}
		lines = append(lines, strings.Join(did, "; "))
	}
	return lines
}

// want reads, and compares what the transactions did.
func (x *tail) want(want ...string) []*cdc.Transaction {
	x.t.Helper()
	transactions := x.read()
	if got := x.script(transactions); !slices.Equal(got, want) {
		x.t.Fatalf("got %q, want %q", got, want)
	}
	return transactions
}

func (x *tail) name(id cdc.TableID) string {
	if id == 0 {
		return "an unknown table"
	}
	return watched[id-1]
}

var opNames = map[cdc.Op]string{cdc.Insert: "insert", cdc.Update: "update", cdc.Delete: "delete", cdc.Truncate: "truncate"}

// line prints a change: update a 2 was 1.
func (x *tail) line(c cdc.Change) string {
	words := opNames[c.Op] + " " + x.name(c.Table)
	if c.Key != nil {
		words += " " + x.key(c.Table, c.Epoch, c.Key)
	}
	if c.OldKey != nil {
		words += " was " + x.key(c.Table, c.Epoch, c.OldKey)
	}
	return words
}

func (x *tail) key(table cdc.TableID, epoch uint32, k digest.Key) string {
	shape, known := x.shapes[table][epoch]
	if !known {
		x.t.Errorf("a change of %s is of epoch %d, which never was", x.name(table), epoch)
		return "?"
	}
	text, err := shape.KeyJSON(k)
	if err != nil {
		x.t.Error(err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(text), `{"id":`), "}")
}

// same checks that the changes since the start, when the tables were empty, add up to what the server has.
func (x *tail) same() {
	x.t.Helper()
	has := make(rows)
	for _, name := range watched {
		_, err := x.source.Read(bounded(x.t), x.tables[name], x.epochs[name], cdc.Part{}, has.add(x.epochs[name].Table))
		must(x.t, err)
	}
	if diff := x.rows.diff(has); diff != "" {
		x.t.Errorf("the stream and the server's rows differ: %s", diff)
	}
}

// rows are rows of several tables.
type rows map[place]digest.Row

type place struct {
	table cdc.TableID
	key   string
}

// add collects what a read yields.
func (r rows) add(table cdc.TableID) func(digest.Key, *digest.Row) error {
	return func(k digest.Key, row *digest.Row) error {
		at := place{table, string(k)}
		if _, twice := r[at]; twice {
			return fmt.Errorf("key %x was read twice", k)
		}
		r[at] = digest.Row{Digest: row.Digest, Columns: slices.Clone(row.Columns)}
		return nil
	}
}

// apply carries out a change. In a view that shows some of it already what was there before may be missing; exact says
// that it is not.
func (r rows) apply(c cdc.Change, exact bool) error {
	if c.Op == cdc.Truncate {
		maps.DeleteFunc(r, func(at place, _ digest.Row) bool { return at.table == c.Table })
		return nil
	}
	at, from := place{c.Table, string(c.Key)}, place{c.Table, string(c.Key)}
	if c.OldKey != nil {
		from.key = string(c.OldKey)
	}
	before, was := r[from]
	var problem error
	if exact {
		problem = consistent(c, before, was)
	}
	delete(r, from)
	if c.Op == cdc.Delete {
		return problem
	}
	row := digest.Row{Digest: c.Row.Digest, Columns: slices.Clone(c.Row.Columns)}
	if c.Row.Partial != nil {
		whole, err := exerciseHasher.Complete(c.Row.Partial, before.Columns)
		if err != nil && exact {
			problem = errors.Join(problem, err)
		}
		row = whole // without a digest, if what it is made of is not there: a later change must remove it
	}
	r[at] = row
	return problem
}

// consistent checks a change against the row that it changes.
func consistent(c cdc.Change, before digest.Row, was bool) error {
	switch {
	case c.Op == cdc.Insert && was:
		return errors.New("a row is inserted that is there")
	case c.Op != cdc.Insert && !was:
		return errors.New("there was no such row")
	case c.Op == cdc.Delete && (c.Row.Digest != digest.Digest{} || c.Row.Partial != nil):
		return errors.New("a deleted row has values")
	case c.HasBefore && c.Before != before.Digest:
		return fmt.Errorf("it says that the row was %v, and it was %v", c.Before, before.Digest)
	}
	return nil
}

// equal is whether diff finds nothing.
func (r rows) equal(o rows) bool { return maps.EqualFunc(r, o, alike) }

func alike(a, b digest.Row) bool { return a.Digest == b.Digest && slices.Equal(a.Columns, b.Columns) }

// diff says in what others differ from r.
func (r rows) diff(o rows) string {
	var lines []string
	for at, row := range r {
		if other, has := o[at]; !has || !alike(row, other) {
			lines = append(lines, fmt.Sprintf("table %d key %x: %v, other %v", at.table, at.key, row.Digest, other.Digest))
		}
	}
	for at, row := range o {
		if _, has := r[at]; !has {
			lines = append(lines, fmt.Sprintf("table %d key %x: no row, other %v", at.table, at.key, row.Digest))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines[:min(len(lines), 5)], "; ")
}

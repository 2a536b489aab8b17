package cdctest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Row is a row's values by column; a column that is not in it is NULL. nil is no row.
type Row map[string]int

func (r Row) clone() Row { return maps.Clone(r) }

// only returns the values of the columns.
func (r Row) only(columns []digest.Column) Row {
	if r == nil {
		return nil
	}
	out := Row{}
	for _, c := range columns {
		if v, ok := r[c.Name]; ok {
			out[c.Name] = v
		}
	}
	return out
}

// same reports whether two rows are the same in the columns.
func (r Row) same(other Row, columns []digest.Column) bool {
	if (r == nil) != (other == nil) {
		return false
	}
	for _, c := range columns {
		mine, has := r[c.Name]
		if theirs, too := other[c.Name]; has != too || mine != theirs {
			return false
		}
	}
	return true
}

// table is a table of a server. Its key is the column id.
type table struct {
	name    string
	columns []digest.Column // sorted by name
	rows    map[int]Row
	version int
	order   cdc.Order
	compare func(a, b int) int // the server's order of keys
	// problem says why lockstep cannot watch it; while there is one the log shows no changes of it.
	problem string
}

const keyColumn = "id"

func (t *table) clone() *table {
	c := *t
	c.columns, c.rows = slices.Clone(t.columns), maps.Clone(t.rows)
	return &c
}

func (t *table) column(name string) int {
	return slices.IndexFunc(t.columns, func(c digest.Column) bool { return c.Name == name })
}

// Int and Wide make columns: a number, and a text that an update of PostgreSQL's leaves out where it is as it was.
func Int(name string) digest.Column { return digest.Column{Name: name, Class: digest.Int} }

// Wide makes a column of long texts.
func Wide(name string) digest.Column {
	return digest.Column{Name: name, Class: digest.Text, Wide: true}
}

// CreateTable makes a table with the key id and the columns.
func (s *Server) CreateTable(name string, columns ...digest.Column) {
	s.do(func() {
		t := &table{name: name, version: s.dropped[name], rows: make(map[int]Row), order: cdc.KeyOrder, compare: cmp.Compare[int], columns: append([]digest.Column{Int(keyColumn)}, columns...)}
		t.define(s)
		s.tables[name] = t
	})
}

// define is called whenever the definition of a table was changed. Whoever does that waits for commits; here they end at
// once.
func (t *table) define(s *Server) {
	slices.SortFunc(t.columns, func(a, b digest.Column) int { return strings.Compare(a.Name, b.Name) })
	if s.cluster.gtids() {
		for i := range t.columns {
			t.columns[i].Wide = false // their logs have whole images
		}
	}
	t.version++
	s.hidden = nil
	s.end += 8
}

// DropTable drops a table with its rows. One that is made in its place has another version: PostgreSQL numbers tables, and the logs of the
// others have the DROP.
func (s *Server) DropTable(name string) {
	s.do(func() {
		t := s.tables[name]
		for key, row := range t.rows {
			s.note(name, key, step{before: row})
		}
		s.dropped[name] = t.version
		delete(s.tables, name)
		s.hidden = nil
	})
}

// AddColumn adds a column, of which rows that exist have no value.
func (s *Server) AddColumn(name string, c digest.Column) {
	s.do(func() {
		if t := s.tables[name]; t != nil && t.column(c.Name) < 0 {
			t.columns = append(t.columns, c)
			t.define(s)
		}
	})
}

// DropColumn drops a column with all of its values.
func (s *Server) DropColumn(name, column string) {
	s.do(func() {
		t := s.tables[name]
		if t == nil || t.column(column) < 0 || column == keyColumn {
			return
		}
		t.columns = slices.Delete(t.columns, t.column(column), t.column(column)+1)
		for key, row := range t.rows {
			without := row.clone()
			delete(without, column)
			t.rows[key] = without
		}
		t.define(s)
	})
}

// AlterColumn changes the type of a column; the values stay.
func (s *Server) AlterColumn(name string, to digest.Column) {
	s.do(func() {
		if t := s.tables[name]; t != nil && t.column(to.Name) >= 0 {
			t.columns[t.column(to.Name)] = to
			t.define(s)
		}
	})
}

// Rewrite gives a table another version, as a change does that leaves its columns as they are.
func (s *Server) Rewrite(name string) {
	s.do(func() {
		if t := s.tables[name]; t != nil {
			t.define(s)
		}
	})
}

// Unpublish keeps changes of a table out of the log that lockstep reads, until Publish. Both can be seen in its version.
func (s *Server) Unpublish(name string) {
	s.do(func() {
		if t := s.tables[name]; t != nil {
			t.problem = `publication "lockstep" does not carry it`
			t.define(s)
		}
	})
}

// Publish ends what Unpublish began.
func (s *Server) Publish(name string) {
	s.do(func() {
		if t := s.tables[name]; t != nil {
			t.problem = ""
			t.define(s)
		}
	})
}

// Tables returns the names of the tables.
func (s *Server) Tables() []string {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return slices.Sorted(maps.Keys(s.tables))
}

// Definition returns the definition of a table as lockstep reads it; of one that is not there only the name.
func (s *Server) Definition(name string) cdc.Table {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if t := s.tables[name]; t != nil {
		return s.definition(t)
	}
	return cdc.Table{Name: name}
}

// Columns returns the names of a table's columns.
func (s *Server) Columns(name string) []string {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	var names []string
	if t := s.tables[name]; t != nil {
		for _, c := range t.columns {
			names = append(names, c.Name)
		}
	}
	return names
}

// Keys returns the keys of a table's rows, ascending.
func (s *Server) Keys(name string) []int {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if s.tables[name] == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.tables[name].rows))
}

// Row returns a row; nil if there is none.
func (s *Server) Row(name string, key int) Row {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if s.tables[name] == nil {
		return nil
	}
	return s.tables[name].rows[key].clone()
}

// definition is the table's definition as lockstep reads it.
func (s *Server) definition(t *table) cdc.Table {
	return cdc.Table{
		Name: t.name, Columns: slices.Clone(t.columns), Key: []string{keyColumn}, Leaves: []string{t.name},
		Version: fmt.Sprintf("%s/%d", s.systemID, t.version), Rows: int64(len(t.rows)), Order: t.order,
		Problem: t.problem,
	}
}

// coder makes keys and rows of a table by a shape.
type coder struct {
	shape   digest.Shape
	encoder *digest.Encoder
}

func newCoder(h *digest.Hasher, s digest.Shape) (*coder, error) {
	e, err := digest.NewEncoder(h, s)
	return &coder{s, e}, err
}

// set gives the encoder the values of a row. Wide values that are as they were before are left out.
func (c *coder) set(key int, row, before Row) {
	c.encoder.Reset()
	for i, col := range c.shape.Columns {
		v, has := row[col.Name]
		if col.Name == keyColumn {
			v, has = key, true
		}
		was, had := before[col.Name]
		switch {
		case col.Wide && before != nil && has == had && v == was && has:
			c.encoder.Unchanged(i)
		case !has:
			c.encoder.Null(i)
		case col.Class == digest.Int:
			c.encoder.Int(i, int64(v))
		default:
			c.encoder.Text(i, fmt.Appendf(nil, "%024d", v))
		}
	}
}

func (c *coder) key(key int) (digest.Key, error) {
	c.set(key, Row{}, nil)
	return c.encoder.AppendKey(nil)
}

func (c *coder) row(key int, row, before Row) (r digest.Row, err error) {
	c.set(key, row, before)
	err = c.encoder.Row(&r)
	return r, err
}

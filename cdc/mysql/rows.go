package mysql

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
)

// mostMaps is how many descriptions of tables are kept. A server gives a table a new id whenever it opens it again.
const mostMaps = 10_000

// mapped is a table as a TABLE_MAP_EVENT describes it. The description holds within a group; most groups repeat that of
// the group before.
type mapped struct {
	body    []byte
	group   uint64 // the last that it was given in
	list    *watched
	name    string        // qualified
	table   *watchedTable // nil: not one of ours
	encoder *digest.Encoder
	plan    *plan // nil: its rows cannot be decoded
	why     error // nil if the table has no shape yet
}

// mapTable takes a description of a table.
func (a *assembler) mapTable(body []byte) error {
	size := tableIDSize(a.lengths, replication.TABLE_MAP_EVENT)
	if len(body) < size {
		return errors.New("table map event is too short")
	}
	id, g := littleEndian(body[:size]), &a.group
	m := a.maps[id]
	if m == nil || !bytes.Equal(m.body, body) {
		m = &mapped{body: bytes.Clone(body)}
		a.maps[id] = m
	}
	if m.list != g.list {
		if err := m.bind(g.list, size, a.fold(), a.hasher); err != nil {
			return err
		}
	}
	m.group = g.serial
	return nil
}

// bind looks the table up in the list, and fits its description to the shape that it has there.
func (m *mapped) bind(list *watched, idSize int, fold bool, h *digest.Hasher) error {
	schema, table, err := mappedName(m.body, idSize)
	if err != nil {
		return err
	}
	*m = mapped{body: m.body, list: list, name: qualified(schema, table, fold)}
	m.table = list.tables[m.name]
	if m.table == nil || !m.table.known() {
		return nil
	}
	m.why = fault.Catch(func() error { return m.fit(idSize, h) })
	return nil
}

// fit finds out how the table's rows are decoded.
func (m *mapped) fit(idSize int, h *digest.Hasher) error {
	description, err := parseTableMap(m.body, idSize)
	if err != nil {
		return err
	}
	shape := m.table.epoch.Shape
	plan, reason := newPlan(m.table.definition, description, shape)
	if reason != "" {
		return errors.New(reason)
	}
	if m.encoder, err = digest.NewEncoder(h, shape); err != nil {
		return err
	}
	m.plan = plan
	return nil
}

// mappedName reads the names from a TABLE_MAP_EVENT: id | flags 2 | length 1, schema, 0 | length 1, table, 0 | ...
func mappedName(body []byte, idSize int) (schema, table string, err error) {
	rest := body[min(len(body), idSize+2):]
	for _, name := range []*string{&schema, &table} {
		if len(rest) == 0 || len(rest) < 2+int(rest[0]) {
			return "", "", errors.New("table map event ends within a name")
		}
		n := int(rest[0])
		*name, rest = string(rest[1:1+n]), rest[2+n:]
	}
	return schema, table, nil
}

// noTable is the id in a rows event that only says that a statement has ended.
const noTable = 0xffffff

// rows takes a rows event. What cannot be decoded puts its table in doubt, and no other.
func (a *assembler) rows(h *header, body []byte, op cdc.Op) error {
	size := tableIDSize(a.lengths, h.kind)
	if len(body) < size {
		return errors.New("rows event is too short")
	}
	id, g := littleEndian(body[:size]), &a.group
	m := a.maps[id]
	if m == nil || m.group != g.serial {
		if id == noTable || id == 1<<(8*size)-1 {
			return nil
		}
		return fmt.Errorf("rows of the table with id %d, which transaction %v does not describe", id, g.id)
	}
	switch {
	case m.table == nil:
		if !slices.Contains(g.others, m.name) {
			g.others = append(g.others, m.name)
		}
		return nil
	case m.plan == nil:
		g.touchFor(m.table.epoch.Table, m.why)
		return nil
	}
	kept := len(g.changes)
	if err := fault.Catch(func() error { return a.decode(m, h, body, op) }); err != nil {
		g.changes = g.changes[:kept]
		g.touchFor(m.table.epoch.Table, err)
	}
	return nil
}

// decode makes changes of the rows in an event.
func (a *assembler) decode(m *mapped, h *header, body []byte, op cdc.Op) error {
	r, err := parseRows(byte(h.kind), body, tableIDSize(a.lengths, h.kind))
	if err != nil {
		return err
	}
	g, epoch := &a.group, m.table.epoch
	for data := r.data; len(data) > 0; {
		c := cdc.Change{Table: epoch.Table, Op: op, Epoch: epoch.Number}
		rest, err := m.change(&c, data, &r, &g.keys)
		switch {
		case err != nil:
			return err
		case len(rest) == len(data):
			return errors.New("its rows have no columns")
		}
		data = rest
		g.changes = append(g.changes, c)
	}
	return nil
}

// change decodes one row, or of an update its two images. Images are whole, so what the row was before is known.
func (m *mapped) change(c *cdc.Change, data []byte, r *rowsHeader, k *keys) (rest []byte, err error) {
	m.encoder.Reset()
	if rest, err = m.plan.decodeImage(data, r.present, m.encoder); err != nil {
		return nil, err
	}
	if c.Key, err = k.add(m.encoder); err != nil {
		return nil, err
	}
	c.HasBefore = true
	if c.Op != cdc.Insert {
		var before digest.Row
		if err := m.encoder.Row(&before); err != nil {
			return nil, err
		}
		c.Before = before.Digest
	}
	switch c.Op {
	case cdc.Delete:
		return rest, nil
	case cdc.Update:
		before := c.Key
		m.encoder.Reset()
		if rest, err = m.plan.decodeImage(rest, r.presentAfter, m.encoder); err != nil {
			return nil, err
		}
		if c.Key, err = k.add(m.encoder); err != nil {
			return nil, err
		}
		if c.Key.Compare(before) != 0 {
			c.OldKey = before
		} else {
			k.undo(c.Key)
			c.Key = before
		}
	}
	return rest, m.encoder.Row(&c.Row)
}

package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

var _ cdc.Reader = (*Source)(nil)

// Read implements [cdc.Reader]. A part is read in a short transaction of its own, which shows all that the stream has shown;
// the end of the log after it was opened is where the view is settled: a transaction writes its commit before it is visible.
func (s *Source) Read(ctx context.Context, t cdc.Table, e cdc.Epoch, p cdc.Part, yield func(digest.Key, *digest.Row) error) (cdc.View, error) {
	conn, err := s.alive(ctx)
	if err != nil {
		return cdc.View{}, s.wrap(err)
	}
	defer s.give(conn)
	view, err := s.readPart(ctx, conn, t, e, p, yield)
	if err != nil {
		return cdc.View{}, s.wrap(fmt.Errorf("read table %s: %w", t.Name, err))
	}
	return view, nil
}

func (s *Source) readPart(ctx context.Context, conn *pgx.Conn, t cdc.Table, e cdc.Epoch, p cdc.Part, yield func(digest.Key, *digest.Row) error) (cdc.View, error) {
	where, err := clause(e.Shape, p)
	if err != nil {
		return cdc.View{}, err
	}
	view, err := s.openView(ctx, conn)
	if err != nil {
		return view, err
	}
	v := &snapshot{source: s, conn: conn}
	same := v.kept
	if p.Keys != nil {
		same = v.unchanged // by its keys is read what is in doubt
	}
	if err := v.rows(ctx, t, e, where, same, yield); err != nil {
		return view, err
	}
	_, err = conn.Exec(ctx, "COMMIT")
	return view, err
}

// openView begins a transaction that shows all that the stream has shown.
func (s *Source) openView(ctx context.Context, conn *pgx.Conn) (cdc.View, error) {
	const begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	if s.scanOnly() {
		_, err := conn.Exec(ctx, begin)
		return cdc.View{}, err
	}
	timeout := time.After(s.visible)
	for {
		began, through, pending := s.shown.now()
		if !began {
			return cdc.View{}, cdc.ErrNotStreaming
		}
		if _, err := conn.Exec(ctx, begin); err != nil {
			return cdc.View{}, err
		}
		now, err := readMVCC(ctx, conn)
		if err != nil {
			return cdc.View{}, err
		}
		s.shown.settle(now)
		if now.showsAll(pending) {
			end, _, err := s.endOfCommits(ctx, conn)
			return cdc.View{Cut: through, Settled: max(end, through)}, err
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return cdc.View{}, err
		}
		select {
		case <-ctx.Done():
			return cdc.View{}, ctx.Err()
		case <-timeout:
			return cdc.View{}, fmt.Errorf("transactions that the log has are not visible to readers after %v: they may wait for a synchronous standby; see that it answers", s.visible)
		case <-time.After(s.poll):
		}
	}
}

func (v *mvcc) showsAll(list []uint64) bool {
	for _, p := range list {
		if !v.shows(p) {
			return false
		}
	}
	return true
}

func readMVCC(ctx context.Context, conn *pgx.Conn) (*mvcc, error) {
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_snapshot()::text").Scan(&text); err != nil {
		return nil, fmt.Errorf("read the snapshot: %w", err)
	}
	return parseMVCC(text)
}

// clause says in SQL which rows a part has, in the order of the primary key.
func clause(shape digest.Shape, p cdc.Part) (string, error) {
	var names []string
	for _, i := range shape.Key {
		names = append(names, quoteName(shape.Columns[i].Name))
	}
	key := "(" + strings.Join(names, ", ") + ")"
	if p.Keys != nil {
		return keysClause(shape, key, p.Keys)
	}
	var bounds []string
	for _, b := range []struct {
		key     digest.Key
		compare string
	}{{p.After, " > "}, {p.Through, " <= "}} {
		if b.key == nil {
			continue
		}
		literal, err := keyLiteral(shape, b.key)
		if err != nil {
			return "", err
		}
		bounds = append(bounds, key+b.compare+literal)
	}
	where := ""
	if len(bounds) > 0 {
		where = " WHERE " + strings.Join(bounds, " AND ")
	}
	if p.After == nil && p.Through == nil && p.Limit == 0 {
		return "", nil // all rows, in any order
	}
	where += " ORDER BY " + strings.Join(names, ", ")
	if p.Limit > 0 {
		where += fmt.Sprintf(" LIMIT %d", p.Limit)
	}
	return where, nil
}

func keysClause(shape digest.Shape, key string, keys []digest.Key) (string, error) {
	if len(keys) == 0 {
		return " WHERE false", nil
	}
	list := make([]string, len(keys))
	for i, k := range keys {
		var err error
		if list[i], err = keyLiteral(shape, k); err != nil {
			return "", err
		}
	}
	return " WHERE " + key + " IN (" + strings.Join(list, ", ") + ")", nil
}

// keyLiteral writes a key as a row of literals, whose types are those of the columns that they are compared with.
func keyLiteral(shape digest.Shape, k digest.Key) (string, error) {
	text, err := shape.KeyJSON(k)
	if err != nil {
		return "", err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return "", fmt.Errorf("key %s cannot be written in a statement: %w", text, err)
	}
	parts := make([]string, len(shape.Key))
	for i, c := range shape.Key {
		raw := fields[shape.Columns[c].Name]
		value := string(raw)
		var odd struct{ Bytes string }
		switch {
		case len(raw) > 0 && raw[0] == '{' && shape.Columns[c].Class == digest.Text && json.Unmarshal(raw, &odd) == nil && odd.Bytes != "":
			parts[i] = fmt.Sprintf("pg_catalog.convert_from(%s, pg_catalog.getdatabaseencoding())", quoteText(odd.Bytes))
			continue
		case len(raw) == 0 || raw[0] == '{':
			return "", fmt.Errorf("key %s cannot be written in a statement", text)
		case raw[0] == '"':
			if err := json.Unmarshal(raw, &value); err != nil {
				return "", err
			}
		}
		parts[i] = quoteText(value)
	}
	return "(" + strings.Join(parts, ", ") + ")", nil
}

// order says in which order the table can be read in parts. Of a column that is not ordered as its keys are, only the
// server knows the order.
func (v *catalogView) order(t tableFacts, table cdc.Table) cdc.Order {
	order := cdc.KeyOrder
	for _, name := range table.Key {
		for _, a := range v.attributes[t.Relations[0].OID] {
			if a.Name != name {
				continue
			}
			switch kind := v.types[a.Type].PostgresType; digest.PostgresColumn(name, kind).Class {
			case digest.Int, digest.Decimal, digest.Bytes, digest.UUID, digest.Date, digest.Time, digest.Timestamp, digest.Instant:
			case digest.Text:
				if !a.Bytewise || kind.Name != "text" && kind.Name != "varchar" {
					order = cdc.ServerOrder
				}
			case digest.Float, digest.Verbatim:
				order = cdc.ServerOrder
			default:
				return cdc.Unordered
			}
		}
	}
	return order
}

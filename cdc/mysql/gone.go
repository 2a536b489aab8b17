package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Gone implements [cdc.Source]. The server lists a table for who has a right on it, and a right on all tables of a schema outlives them.
// A session knows global rights as they were when it began: so a new one lists the tables, and the rights must have been there before that
// began and be there after.
func (s *Source) Gone(ctx context.Context, names []string) (gone []string, doubt string, err error) {
	err = s.ask(ctx, func(ctx context.Context, c *session) error {
		gone, doubt, err = s.askGone(ctx, c, names)
		return err
	})
	return gone, doubt, err
}

func (s *Source) askGone(ctx context.Context, before *session, names []string) (gone []string, doubt string, err error) {
	earlier, err := before.readRights(ctx)
	if err != nil {
		return nil, "", err
	}
	c, err := s.open(ctx)
	if err != nil {
		return nil, "", err
	}
	defer c.hangUp()
	if id, err := c.identify(ctx); err != nil {
		return nil, "", err
	} else if was := s.identity.Load(); was != nil && *was != id {
		return nil, "", errors.New("the address leads to another server")
	}
	there, fold, err := c.tableNames(ctx)
	if err != nil {
		return nil, "", err
	}
	now, err := c.readRights(ctx)
	if err != nil {
		return nil, "", err
	}
	var closed []string // schemas
	for _, name := range names {
		schema, _, _ := strings.Cut(name, ".")
		switch {
		case slices.Contains(there, name):
		case earlier.sees(schema, fold) && now.sees(schema, fold):
			gone = append(gone, name)
		case !slices.Contains(closed, schema):
			closed = append(closed, schema)
		}
	}
	return gone, c.hides(closed), nil
}

// hides says that tables of some schemas may only be hidden from us; nothing if there are none.
func (c *session) hides(schemas []string) string {
	if len(schemas) == 0 {
		return ""
	}
	grants := make([]string, len(schemas))
	for i, schema := range schemas {
		grants[i] = c.grant("SELECT", wholeSchema(schema))
	}
	return fmt.Sprintf("the server hides tables that %s may not read: %s", c.account, strings.Join(grants, " "))
}

// tableNames are the qualified names of all tables that the server lists, and whether it compares names without case.
func (c *session) tableNames(ctx context.Context) (names []string, fold bool, err error) {
	lower, err := c.one(ctx, "SELECT @@lower_case_table_names", 1)
	if err != nil {
		return nil, false, err
	}
	fold = lower.at(0) != "0"
	rows, err := c.query(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE "+string(everywhere))
	if err != nil {
		return nil, false, fmt.Errorf("read names of tables: %w", err)
	}
	for _, r := range rows {
		names = append(names, qualified(r.at(0), r.at(1), fold))
	}
	return names, fold, nil
}

func (c *session) readRights(ctx context.Context) (*account, error) {
	rows, err := c.query(ctx, "SHOW GRANTS")
	if err != nil {
		return nil, fmt.Errorf("read our privileges: %w", err)
	}
	a := &account{}
	a.judge(rows)
	literal, err := c.query(ctx, "SHOW GLOBAL VARIABLES LIKE 'partial_revokes'")
	if err != nil {
		return nil, fmt.Errorf("read partial_revokes: %w", err)
	}
	if len(literal) == 0 || literal[0].text("Value") != "ON" { // else no character of a schema's name in a grant is special
		for i, s := range a.readsSchemas {
			a.readsSchemas[i] = strings.NewReplacer(`\\`, `\`, `\_`, "_", `\%`, "%").Replace(s)
		}
	}
	return a, nil
}

// sees reports whether the account surely may read all tables of a schema, those that were dropped and that will be made too. That a
// pattern fits it is not looked at.
func (a *account) sees(schema string, fold bool) bool {
	return a.readsAll || slices.ContainsFunc(a.readsSchemas, func(s string) bool { return sameName(s, schema, fold) })
}

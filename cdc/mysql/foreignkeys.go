package mysql

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A foreign key can change rows of the child when its parent changes: ON DELETE or ON UPDATE CASCADE, SET NULL, SET
// DEFAULT. InnoDB does so beneath the log: neither the member's own stream nor its replicas' show it
// (https://dev.mysql.com/doc/refman/8.4/en/innodb-and-mysql-replication.html). From MySQL 9.6 on the server does it, and
// logs it, unless innodb_native_foreign_keys is ON.
type foreignKey struct {
	child              relation
	name               string
	onDelete, onUpdate string // empty: not known
}

// acts names the key and what it does to rows of the child, or is empty.
func (k foreignKey) acts() string {
	if k.onDelete == "" {
		return fmt.Sprintf("foreign key %s (of rules that we may not see)", k.name)
	}
	var rules []string
	for _, r := range []struct{ event, rule string }{{"ON DELETE", k.onDelete}, {"ON UPDATE", k.onUpdate}} {
		if r.rule != "RESTRICT" && r.rule != "NO ACTION" {
			rules = append(rules, r.event+" "+r.rule)
		}
	}
	if len(rules) == 0 {
		return ""
	}
	return fmt.Sprintf("foreign key %s (%s)", k.name, strings.Join(rules, " "))
}

// Of a table that an account may only SELECT from, MariaDB lists foreign keys in KEY_COLUMN_USAGE and not in
// REFERENTIAL_CONSTRAINTS.
const foreignKeysQuery = `
SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, r.DELETE_RULE, r.UPDATE_RULE
FROM (SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.KEY_COLUMN_USAGE
  WHERE REFERENCED_TABLE_NAME IS NOT NULL AND %s) k
LEFT JOIN information_schema.REFERENTIAL_CONSTRAINTS r
  ON r.CONSTRAINT_SCHEMA = k.TABLE_SCHEMA AND r.TABLE_NAME = k.TABLE_NAME AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME`

// readForeignKeys finds what changes rows of the tables without a trace in the log.
func (v *catalogView) readForeignKeys(ctx context.Context, c *session) error {
	logged, err := logsCascades(ctx, c)
	if err != nil || logged {
		return err
	}
	rows, err := c.query(ctx, fmt.Sprintf(foreignKeysQuery, v.scope))
	if err != nil {
		return fmt.Errorf("read foreign keys: %w", err)
	}
	printed := map[relation][]foreignKey{}
	for _, r := range rows {
		k := foreignKey{child: relation{r.at(0), r.at(1)}, name: r.at(2), onDelete: r.at(3), onUpdate: r.at(4)}
		d := v.tables[k.child]
		if d == nil {
			continue
		}
		if k.onDelete == "" {
			if printed[k.child] == nil {
				if printed[k.child], err = printedForeignKeys(ctx, c, k.child); err != nil {
					return err
				}
			}
			if i := slices.IndexFunc(printed[k.child], func(p foreignKey) bool { return p.name == k.name }); i >= 0 {
				k = printed[k.child][i]
			}
		}
		if acts := k.acts(); acts != "" {
			d.cascades = append(d.cascades, acts)
		}
	}
	for _, d := range v.tables {
		slices.Sort(d.cascades)
	}
	return nil
}

// logsCascades reports whether the server logs what foreign keys do.
func logsCascades(ctx context.Context, c *session) (bool, error) {
	rows, err := c.query(ctx, "SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'")
	return len(rows) == 1 && len(rows[0].values) == 2 && rows[0].at(1) == "OFF", err
}

// printedForeignKeys reads the rules from the statement that would make the table.
func printedForeignKeys(ctx context.Context, c *session, child relation) ([]foreignKey, error) {
	printed, err := c.one(ctx, "SHOW CREATE TABLE "+quoteName(child.schema, child.table), 2)
	if err != nil {
		return nil, fmt.Errorf("read foreign keys of table %s.%s: %w", child.schema, child.table, err)
	}
	return parseForeignKeys(child, printed.at(1)), nil
}

var (
	inQuotes = regexp.MustCompile("`(?:[^`]|``)*`|'(?:[^'\\\\]|\\\\.|'')*'")
	fkClause = regexp.MustCompile(`CONSTRAINT <(\d+)> FOREIGN KEY \([^)]*\) REFERENCES [^(]*\([^)]*\)((?: ON (?:DELETE|UPDATE) (?:RESTRICT|CASCADE|SET NULL|NO ACTION|SET DEFAULT))*)`)
	fkRule   = regexp.MustCompile(`ON (DELETE|UPDATE) (RESTRICT|CASCADE|SET NULL|NO ACTION|SET DEFAULT)`)
)

// parseForeignKeys reads the constraints of a SHOW CREATE TABLE. Names and comments may hold anything, so they are set
// aside first.
func parseForeignKeys(child relation, statement string) []foreignKey {
	var names []string
	bare := inQuotes.ReplaceAllStringFunc(statement, func(name string) string {
		names = append(names, strings.ReplaceAll(name[1:len(name)-1], "``", "`"))
		return "<" + strconv.Itoa(len(names)-1) + ">"
	})
	var keys []foreignKey
	for _, match := range fkClause.FindAllStringSubmatch(bare, -1) {
		i, err := strconv.Atoi(match[1])
		if err != nil || i >= len(names) {
			continue
		}
		k := foreignKey{child: child, name: names[i]}
		for _, r := range fkRule.FindAllStringSubmatch(match[2], -1) {
			if r[1] == "DELETE" {
				k.onDelete = r[2]
			} else {
				k.onUpdate = r[2]
			}
		}
		k.onDelete, k.onUpdate = cmp.Or(k.onDelete, "RESTRICT"), cmp.Or(k.onUpdate, "RESTRICT")
		keys = append(keys, k)
	}
	return keys
}

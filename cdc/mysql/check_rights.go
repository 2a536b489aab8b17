package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// account is what we may do on the server.
type account struct {
	name         string   // as GRANT wants it
	readsAll     bool     // every row of every table
	readsSchemas []string // every row of every table in them; as GRANT has them, where _ and % may stand for other characters
	readsLog     bool     // as a replica does
	seesLog      bool     // its state
	seesReplicas bool     // the state of replication
}

// read asks for what the account was granted, by roles too; both servers show that. Of rights that have several names the
// server is asked whether they do.
func (a *account) read(ctx context.Context, c *session) error {
	rows, err := c.query(ctx, "SHOW GRANTS")
	if err != nil {
		return fmt.Errorf("read our privileges: %w", err)
	}
	a.judge(rows)
	for query, allowed := range map[string]*bool{c.version.logStatus(): &a.seesLog, c.version.replicaStatus(): &a.seesReplicas} {
		_, err := c.query(ctx, query)
		if err != nil && errorCode(err) != errPrivilegeMissing {
			return fmt.Errorf("%s: %w", query, err)
		}
		*allowed = err == nil
	}
	return nil
}

func (a *account) judge(grants []row) {
	global, revoked := map[string]bool{}, false
	for _, r := range grants {
		line := r.at(0)
		revoked = revoked || strings.HasPrefix(line, "REVOKE ") // of a schema, on MySQL
		privileges, on, _ := strings.Cut(strings.TrimPrefix(line, "GRANT "), " ON ")
		if strings.Contains(privileges, "`") {
			continue // on columns
		}
		schema, whole := wholly(on)
		for privilege := range strings.SplitSeq(privileges, ",") {
			switch privilege = strings.TrimSpace(privilege); {
			case strings.HasPrefix(on, "*.* TO "):
				global[privilege] = true
			case whole && (privilege == "SELECT" || privilege == "ALL PRIVILEGES"):
				a.readsSchemas = append(a.readsSchemas, schema)
			}
		}
	}
	a.readsAll = (global["SELECT"] || global["ALL PRIVILEGES"]) && !revoked
	a.readsLog = global["REPLICATION SLAVE"] || global["ALL PRIVILEGES"]
}

// wholly returns the schema of which a line of SHOW GRANTS is about all tables.
func wholly(on string) (schema string, whole bool) {
	if !strings.HasPrefix(on, "`") {
		return "", false
	}
	for rest := on[1:]; ; {
		name, after, closed := strings.Cut(rest, "`")
		schema, rest = schema+name, after
		if !closed || !strings.HasPrefix(rest, "`") {
			return schema, closed && strings.HasPrefix(rest, ".* TO ")
		}
		schema, rest = schema+"`", rest[1:]
	}
}

// missing are the global privileges that the account lacks.
func (r *report) missing() []string {
	var list []string
	lack := func(has bool, privilege string) {
		if !has && !slices.Contains(list, privilege) {
			list = append(list, privilege)
		}
	}
	lack(r.account.readsLog || r.scanOnly, "REPLICATION SLAVE")
	lack(r.account.seesLog || r.scanOnly, r.version.seeLog())
	lack(r.account.seesReplicas, r.version.seeReplicas())
	return list
}

func (r *report) judgeRights() []preflight.Check {
	c := preflight.Check{Subject: "account", State: preflight.OK, Detail: r.account.name + " may read the log and the state of replication"}
	if r.scanOnly {
		c.Detail = r.account.name + " may read the state of replication"
	}
	if missing := r.missing(); len(missing) > 0 {
		c.State, c.Detail = preflight.Fail, r.account.name+" lacks "+strings.Join(missing, ", ")
		r.grant(&c, strings.Join(missing, ", "), "*.*")
	}
	return append([]preflight.Check{c}, r.judgeReading()...)
}

// judgeReading is about the rows. Tables of which we may do nothing at all are not shown to us, so that the schemas that we
// know of are named.
func (r *report) judgeReading() []preflight.Check {
	denied := map[string][]string{}
	var schemas []string
	for _, t := range r.tables {
		if !slices.Contains(schemas, t.defined.schema) {
			schemas = append(schemas, t.defined.schema)
		}
		if t.denied != "" {
			denied[t.defined.schema] = append(denied[t.defined.schema], t.Name)
		}
	}
	var checks []preflight.Check
	for _, schema := range schemas {
		if tables := denied[schema]; len(tables) > 0 {
			c := preflight.Check{Subject: "schema " + schema, Detail: r.account.name + " may not read " + preflight.SomeOf("tables", tables)}
			r.grant(&c, "SELECT", wholeSchema(schema))
			checks = append(checks, c)
		}
	}
	switch c := (preflight.Check{Subject: "reading rows", State: preflight.OK}); {
	case len(r.tables) == 0 || len(checks) > 0:
	case r.account.readsAll:
		c.Detail = r.account.name + " may read all tables"
		checks = append(checks, c)
	default:
		c.Detail = r.account.name + " sees tables that match in " + preflight.SomeOf("schemas", schemas) + "; others it may not see"
		checks = append(checks, c)
	}
	return checks
}

// grantAll is for an account that sees nothing that matches: nobody knows where it is.
func (r *report) grantAll(c *preflight.Check) {
	on := "*.*"
	if r.schema != "" {
		on = wholeSchema(r.schema)
	}
	hint := "if that is not it, " + c.Hint
	c.Detail, c.Hint = "no table that "+r.account.name+" may see matches", ""
	if r.grant(c, "SELECT", on); c.Hint != "" {
		hint = c.Hint + "; " + hint
	}
	c.Hint = hint
}

// grant fills in the statement that gives us privileges. A replica that lets nobody write has it from its source.
func (r *report) grant(c *preflight.Check, privileges, on string) {
	statement := (&session{account: r.account.name}).grant(privileges, on)
	closed := "super_read_only"
	if r.settings.rds() { // whose administrators are none to the server
		closed = "read_only"
	}
	if r.settings.on(closed) {
		c.Hint = "the server takes no writes (" + closed + "): run it on its source, " + statement
		return
	}
	c.SQL = statement
}

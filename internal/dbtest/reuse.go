package dbtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// idle are servers that were closed and may be had again, by what they were started with: see [Options.Reuse]. [Main]
// ends them.
var idle struct {
	sync.Mutex
	postgres map[string][]*Server
	mysql    map[string][]*MySQLServer
}

// taken removes a server from a list of idle ones, or returns nil.
func taken[S any](list map[string][]*S, kind string) *S {
	idle.Lock()
	defer idle.Unlock()
	of := list[kind]
	if len(of) == 0 {
		return nil
	}
	list[kind] = of[:len(of)-1]
	return of[len(of)-1]
}

// kindOf names what makes two servers of one program alike.
func (o Options) kindOf(program string) string {
	return fmt.Sprint(program, " ", o.Below, " ", o.Zone, " ", o.Conf) // fmt prints a map in the order of its keys
}

// Spoil keeps a server from being used again: its settings or its files are not what they were.
func (d *daemon) Spoil() { d.kind = "" }

// reused is an idle server with an empty database, or nil.
func reused(ctx context.Context, install Install, o Options) (*Server, error) {
	s := taken(idle.postgres, o.kindOf(install.Bin))
	if s == nil {
		return nil, nil
	}
	s.Database = cmp.Or(o.Database, superuser)
	databases, err := s.databases(ctx)
	if err == nil && !slices.Contains(databases, s.Database) {
		err = s.createDatabase(ctx)
	}
	return s, err
}

func (s *Server) databases(ctx context.Context) ([]string, error) {
	return Rows[string](ctx, s, "SELECT datname FROM pg_database WHERE NOT datistemplate")
}

// giveBack makes the server as good as new and keeps it. One that does not run is not kept, nor one that cannot be cleaned.
func (s *Server) giveBack(ctx context.Context) bool {
	if s.kind == "" || !s.Running() || s.clean(ctx) != nil {
		return false
	}
	kept := *s.daemon
	s.process, s.temporary, s.kind = nil, false, "" // this one was closed
	idle.Lock()
	defer idle.Unlock()
	if idle.postgres == nil {
		idle.postgres = make(map[string][]*Server)
	}
	idle.postgres[kept.kind] = append(idle.postgres[kept.kind], &Server{Install: s.Install, Port: s.Port, sessions: s.sessions, daemon: &kept})
	return true
}

// clean empties all databases, which takes a fraction of the time of making new ones, and removes slots, roles, and settings
// made by ALTER SYSTEM.
func (s *Server) clean(ctx context.Context) error {
	databases, err := s.databases(ctx)
	for _, name := range databases {
		if err == nil {
			err = s.session(ctx, name, empty(ctx))
		}
	}
	if err != nil {
		return err
	}
	return s.session(ctx, superuser, func(conn *pgx.Conn) error {
		if err := dropSlots(ctx, conn); err != nil {
			return err
		}
		if err := forEach(ctx, conn, "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> current_user", "DROP ROLE %s"); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "ALTER SYSTEM RESET ALL")
		if err == nil {
			_, err = conn.Exec(ctx, "SELECT pg_reload_conf()")
		}
		return err
	})
}

// Empty makes the server's database as good as new, or is an error. It leaves slots, and roles, to others.
func (s *Server) Empty(ctx context.Context) error {
	return s.session(ctx, s.Database, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SET lock_timeout = '2s'"); err != nil {
			return err
		}
		if err := empty(ctx)(conn); err != nil {
			return err
		}
		settings := 0
		err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()").Scan(&settings)
		if err == nil && settings > 0 {
			err = fmt.Errorf("database %s has %d settings of roles", s.Database, settings)
		}
		return err
	})
}

// emptying are queries for names, each with what is run for every one of them. The slots of subscriptions are left to the
// publisher, which may be gone.
var emptying = [][2]string{
	{ownSubscriptions, "ALTER SUBSCRIPTION %s DISABLE"},
	{ownSubscriptions, "ALTER SUBSCRIPTION %s SET (slot_name = NONE)"},
	{ownSubscriptions, "DROP SUBSCRIPTION %s"},
	{"SELECT pubname FROM pg_publication", "DROP PUBLICATION %s"},
	{"SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'", "DROP EXTENSION %s CASCADE"},
	{"SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'", "DROP SCHEMA %s CASCADE"},
	{"SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> current_user", "DROP OWNED BY %s CASCADE"},
	{"SELECT current_database()", "ALTER DATABASE %s RESET ALL"},
	{"SELECT 'public'", "CREATE SCHEMA %s AUTHORIZATION pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC"}, // as initdb does
}

const ownSubscriptions = "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"

func empty(ctx context.Context) func(*pgx.Conn) error {
	return func(conn *pgx.Conn) error {
		for _, e := range emptying {
			if err := forEach(ctx, conn, e[0], e[1]); err != nil {
				return err
			}
		}
		return nil
	}
}

// forEach runs a statement for every name that a query returns.
func forEach(ctx context.Context, conn *pgx.Conn, query, statement string) error {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		if err == nil {
			_, err = conn.Exec(ctx, fmt.Sprintf(statement, pgx.Identifier{name}.Sanitize()))
		}
	}
	return err
}

// dropSlots cuts off those who use the slots.
func dropSlots(ctx context.Context, conn *pgx.Conn) error {
	return WaitFor(ctx, "all slots to be dropped", func(ctx context.Context) (none bool, err error) {
		if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"); err != nil {
			return false, err
		}
		if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active"); err != nil {
			return false, err
		}
		err = conn.QueryRow(ctx, "SELECT count(*) = 0 FROM pg_replication_slots").Scan(&none)
		return none, err
	})
}

// reusedMySQL is an idle server that was furnished again, or nil.
func reusedMySQL(ctx context.Context, install MySQLInstall, o Options) (*MySQLServer, error) {
	s := taken(idle.mysql, o.kindOf(install.Flavour.String()))
	if s == nil {
		return nil, nil
	}
	s.Database = o.Database
	return s, s.furnish(ctx, o.Password)
}

func (s *MySQLServer) giveBack(ctx context.Context) bool {
	if s.kind == "" || !s.Running() || s.clean(ctx) != nil {
		return false
	}
	kept := &MySQLServer{Install: s.Install, Port: s.Port, conf: s.conf, fresh: s.fresh, daemon: s.daemon}
	s.process, s.temporary, s.kind = nil, false, "" // this one was closed
	idle.Lock()
	defer idle.Unlock()
	if idle.mysql == nil {
		idle.mysql = make(map[string][]*MySQLServer)
	}
	idle.mysql[kept.kind] = append(idle.mysql[kept.kind], kept)
	return true
}

// clean makes the server one that follows nobody, with an empty log and none but the system's databases and accounts. It is
// an error if other settings than at the start are left.
func (s *MySQLServer) clean(ctx context.Context) error {
	if err := errors.Join(s.Unfollow(ctx), s.forgetPrepared(ctx)); err != nil {
		return err
	}
	delete(s.conf, "read_only")
	now, err := s.variables(ctx)
	if err != nil || !maps.Equal(now, s.fresh) {
		return cmp.Or(err, errors.New("its settings are others"))
	}
	if _, err := s.KillDumpThreads(ctx); err != nil {
		return err
	}
	drop := []string{"SET sql_log_bin = 0"}
	drop, err = s.named(ctx, drop, "DROP DATABASE `%s`", `SELECT REPLACE(schema_name, '`+"`', '``"+`') FROM information_schema.schemata
		WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')`)
	if err != nil {
		return err
	}
	if s.Install.Flavour.MariaDB() {
		if now["log_bin"] == "ON" { // without one it has nothing to reset, and says so
			drop = append(drop, "RESET MASTER")
		}
		drop = append(drop, "SET GLOBAL gtid_slave_pos = ''")
		drop, err = s.named(ctx, drop, "DROP ROLE %s", "SELECT QUOTE(user) FROM mysql.user WHERE is_role = 'Y' AND user <> 'PUBLIC'")
	} else {
		drop = append(drop, "RESET BINARY LOGS AND GTIDS")
	}
	if err != nil {
		return err
	}
	user := "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user WHERE user NOT IN ('root', 'mysql.infoschema', 'mysql.session', 'mysql.sys', 'mariadb.sys')"
	if s.Install.Flavour.MariaDB() {
		user += " AND is_role = 'N'"
	}
	if drop, err = s.named(ctx, drop, "DROP USER %s", user); err != nil {
		return err
	}
	return s.session(ctx, "", drop...)
}

// forgetPrepared rolls back the distributed transactions that nobody will end: their locks outlive their sessions, and a
// table with such a lock cannot be dropped. One whose session is just ending is not yet for others to end.
func (s *MySQLServer) forgetPrepared(ctx context.Context) error {
	return WaitFor(ctx, fmt.Sprintf("port %d to have no prepared transactions", s.Port), func(ctx context.Context) (bool, error) {
		prepared, err := s.prepared(ctx)
		var failed error
		for _, xid := range prepared {
			failed = errors.Join(failed, s.session(ctx, "", "SET sql_log_bin = 0", "XA ROLLBACK "+xid))
		}
		return failed == nil, err
	})
}

// prepared are the names of prepared transactions, as XA ROLLBACK takes them. MySQL tells the two parts of a name as one
// hexadecimal number, and their lengths.
func (s *MySQLServer) prepared(ctx context.Context) (xids []string, err error) {
	if s.Install.Flavour.MariaDB() {
		rows, err := s.Show(ctx, "XA RECOVER FORMAT = 'SQL'")
		for _, row := range rows {
			xids = append(xids, row["data"])
		}
		return xids, err
	}
	rows, err := s.Show(ctx, "XA RECOVER CONVERT XID")
	for _, row := range rows {
		first, convErr := strconv.Atoi(row["gtrid_length"])
		data := strings.TrimPrefix(row["data"], "0x")
		if convErr != nil || len(data) < 2*first {
			return nil, fmt.Errorf("prepared transaction %v: %w", row, convErr)
		}
		xids = append(xids, fmt.Sprintf("X'%s', X'%s', %s", data[:2*first], data[2*first:], row["formatID"]))
	}
	return xids, err
}

// named adds a statement for every name that a query returns.
func (s *MySQLServer) named(ctx context.Context, statements []string, statement, query string) ([]string, error) {
	names, err := MySQLRows[string](ctx, s, query)
	for _, name := range names {
		statements = append(statements, fmt.Sprintf(statement, name))
	}
	return statements, err
}

// variables are the server's settings, without those that are states.
func (s *MySQLServer) variables(ctx context.Context) (map[string]string, error) {
	rows, err := s.Show(ctx, "SHOW GLOBAL VARIABLES WHERE variable_name NOT LIKE 'gtid\\_%' OR variable_name = 'gtid_mode'")
	all := make(map[string]string, len(rows))
	for _, row := range rows {
		all[row["Variable_name"]] = row["Value"]
	}
	return all, err
}

// closeIdle ends all that were given back.
func closeIdle() error {
	idle.Lock()
	defer idle.Unlock()
	var errs []error
	for _, list := range idle.postgres {
		for _, s := range list {
			s.kind = ""
			errs = append(errs, s.Close())
		}
	}
	for _, list := range idle.mysql {
		for _, s := range list {
			s.kind = ""
			errs = append(errs, s.Close())
		}
	}
	idle.postgres, idle.mysql = nil, nil
	return errors.Join(errs...)
}

package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// The versions that lockstep is tested with.
const (
	oldestVersion = 15
	newestVersion = 18
)

// What lockstep needs on each member: its own slot and, while rows are read, a temporary one; a walsender for each.
const neededSlots = 2

// serverFacts is what a member says of itself.
type serverFacts struct {
	Version       int    // 150018
	VersionText   string // 15.18
	SystemID      string
	Database      string
	Encoding      string
	Recovery      bool
	WalLevel      string
	Slots         int // that exist
	MaxSlots      int
	Senders       int // that run
	MaxSenders    int
	KeepMB        int64 // max_slot_wal_keep_size; -1: no bound
	RetainedBytes int64 // by the slot that holds back most
	Role          string
	Superuser     bool
	Replication   bool
	ReadsOrigins  bool
	Waiting       []string   // settings that were changed, for when the server is restarted
	Feeding       []string   // slots of the database that subscriptions may read
	Owner, Admin  string     // roles by which a managed service is known; empty: none of those
	Slot          *slotFacts // nil: not there yet
}

// slotFacts is the state of lockstep's own slot.
type slotFacts struct {
	Plugin, Type, Database, WalStatus, Invalidation string
	TwoPhase, Active                                bool
}

const serverQuery = `
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
  (SELECT system_identifier::text FROM pg_catalog.pg_control_system()), current_database()::text,
  pg_catalog.getdatabaseencoding()::text, pg_catalog.pg_is_in_recovery(), current_setting('wal_level'),
  (SELECT count(*)::int FROM pg_catalog.pg_replication_slots), current_setting('max_replication_slots')::int,
  (SELECT count(*)::int FROM pg_catalog.pg_stat_replication), current_setting('max_wal_senders')::int,
  (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),
  (SELECT coalesce(max(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN restart_lsn
     ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)), 0)::bigint FROM pg_catalog.pg_replication_slots),
  current_user::text, r.rolsuper,
  r.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_roles m WHERE m.rolname = 'rds_replication' AND pg_catalog.pg_has_role(m.oid, 'USAGE')),
  pg_catalog.has_table_privilege('pg_catalog.pg_replication_origin_status', 'SELECT')
    AND pg_catalog.has_function_privilege('pg_catalog.pg_show_replication_origin_status()', 'EXECUTE'),
  ARRAY(SELECT name FROM pg_catalog.pg_settings WHERE pending_restart),
  ARRAY(SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical' AND database = current_database()),
  coalesce((SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolsuper AND rolname IN ('rdsadmin', 'cloudsqladmin', 'azuresu') LIMIT 1), ''),
  coalesce((SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname IN ('rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin') LIMIT 1), '')
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`

// Columns that only newer versions have are read by way of JSON.
const slotQuery = `
SELECT coalesce(plugin, ''), slot_type, coalesce(database, ''), coalesce(wal_status, ''),
  coalesce(to_jsonb(s) ->> 'invalidation_reason', ''), two_phase, active
FROM pg_catalog.pg_replication_slots s WHERE slot_name = $1`

func readServer(ctx context.Context, conn *pgx.Conn, slot string) (serverFacts, error) {
	var s serverFacts
	err := conn.QueryRow(ctx, serverQuery).Scan(&s.Version, &s.VersionText, &s.SystemID, &s.Database, &s.Encoding, &s.Recovery,
		&s.WalLevel, &s.Slots, &s.MaxSlots, &s.Senders, &s.MaxSenders, &s.KeepMB, &s.RetainedBytes, &s.Role, &s.Superuser,
		&s.Replication, &s.ReadsOrigins, &s.Waiting, &s.Feeding, &s.Owner, &s.Admin)
	if err != nil {
		return s, fmt.Errorf("read settings: %w", err)
	}
	rows, err := conn.Query(ctx, slotQuery, slot)
	if err != nil {
		return s, fmt.Errorf("read slot %q: %w", slot, err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[slotFacts])
	if err != nil {
		return s, fmt.Errorf("read slot %q: %w", slot, err)
	}
	if len(slots) == 1 {
		s.Slot = &slots[0]
	}
	return s, nil
}

func judgeVersion(s serverFacts) preflight.Check {
	c := preflight.Check{Subject: "version", State: preflight.OK, Detail: "PostgreSQL " + s.VersionText}
	if managed := s.service(); managed != nil {
		c.Detail += " on " + managed.name
	}
	switch major := s.Version / 10000; {
	case major < oldestVersion:
		c.State, c.Hint = preflight.Fail, fmt.Sprintf("lockstep watches PostgreSQL %d and newer", oldestVersion)
	case major > newestVersion:
		c.State, c.Hint = preflight.Warn, fmt.Sprintf("this version of lockstep was tested up to PostgreSQL %d", newestVersion)
	}
	return c
}

// judgeEncoding is about texts, which are compared as UTF-8 whatever encoding they are stored in.
func judgeEncoding(s serverFacts) []preflight.Check {
	c := preflight.Check{Subject: "encoding", State: preflight.Warn, Detail: s.Encoding}
	switch s.Encoding {
	case "UTF8":
		return nil
	case rawBytes:
		c.Detail += ", texts are compared as the bytes that they are"
		c.Hint = "see that the database has this encoding on every member: elsewhere bytes that are no UTF-8 cannot be read by their key"
	default:
		c.Detail += ", texts are compared as UTF-8"
		c.Hint = "a text that the server cannot convert stops lockstep's reading of this member; see that it has none, or move to a database in UTF8"
	}
	return []preflight.Check{c}
}

const originsSubject = "replication origins"

// judgeRole is about the role that lockstep connects as, its rights on tables excepted.
func judgeRole(s serverFacts, tables []tableFacts) []preflight.Check {
	role := quoteName(s.Role)
	replication := preflight.Check{Subject: "replication role", State: preflight.OK, Detail: role + " may replicate"}
	if !s.Replication && !s.Superuser {
		replication.State, replication.Detail = preflight.Fail, role+" has no REPLICATION attribute"
		replication.SQL = fmt.Sprintf("ALTER ROLE %s REPLICATION;", role)
		if managed := s.service(); managed != nil && managed.replica != "" {
			replication.Detail = role + " is no member of " + managed.replica
			replication.SQL = fmt.Sprintf("GRANT %s TO %s;", managed.replica, role)
		}
	}
	origins := preflight.Check{Subject: originsSubject, State: preflight.OK, Detail: role + " may read them"}
	if !s.ReadsOrigins {
		origins.State, origins.Detail = preflight.Fail, role+" may not read how far the server has replayed"
		s.only(&origins, fmt.Sprintf("GRANT SELECT ON pg_catalog.pg_replication_origin_status TO %s;\n"+
			"GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_replication_origin_status() TO %s;", role, role),
			"Try it as its administrator, and ask its support for it if that is refused")
	}
	return append([]preflight.Check{replication, origins}, judgeRowSecurity(s, tables)...)
}

// judgeSettings is about postgresql.conf.
func judgeSettings(s serverFacts) []preflight.Check {
	wal := preflight.Check{Subject: "wal_level", State: preflight.OK, Detail: s.WalLevel}
	if s.WalLevel != "logical" {
		wal.State, wal.Detail = preflight.Fail, s.WalLevel+", lockstep needs logical"
		s.assignAtStart(&wal, "logical")
	}
	taken := 0 // of what we need, by ourselves
	if s.Slot != nil {
		taken = 1
	}
	slots := s.judgeFree("max_replication_slots", s.Slots, s.MaxSlots, neededSlots-taken)
	taken = 0
	if s.Slot != nil && s.Slot.Active {
		taken = 1
	}
	return []preflight.Check{wal, slots, s.judgeFree("max_wal_senders", s.Senders, s.MaxSenders, neededSlots-taken), judgeRetention(s)}
}

// assignAtStart fills in what gives a setting that is read when the server starts its value. The reload has the server say that it waits.
func (s serverFacts) assignAtStart(c *preflight.Check, value string) {
	if slices.Contains(s.Waiting, c.Subject) {
		c.Detail, c.Hint = c.Detail+"; it was changed, for when the server is restarted", "restart the server"
		return
	}
	s.set(c, c.Subject, value, true)
}

func (s serverFacts) judgeFree(setting string, used, limit, needed int) preflight.Check {
	c := preflight.Check{Subject: setting, State: preflight.OK, Detail: fmt.Sprintf("%d of %d in use", used, limit)}
	if limit-used < needed {
		c.State, c.Detail = preflight.Fail, fmt.Sprintf("%s, lockstep needs %d", c.Detail, needed)
		s.assignAtStart(&c, fmt.Sprint(max(10, used+needed+2)))
	}
	return c
}

// judgeRetention sees to it that a slot nobody reads cannot fill the disk. The size that the SQL sets is at least four
// times what any slot holds back now, so that it does not take WAL from under a subscriber.
func judgeRetention(s serverFacts) preflight.Check {
	if s.KeepMB >= 0 {
		return preflight.Check{Subject: "max_slot_wal_keep_size", State: preflight.OK, Detail: fmt.Sprintf("%d MB", s.KeepMB)}
	}
	gigabytes := max(10, s.RetainedBytes>>28+1)
	c := preflight.Check{
		Subject: "max_slot_wal_keep_size", State: preflight.Warn, Detail: "no bound: if lockstep is away, its slot could fill the disk",
		Hint: "it bounds every slot of the server, those of subscribers too; choose what the disk can spare",
	}
	s.set(&c, c.Subject, fmt.Sprintf("%dGB", gigabytes), false)
	return c
}

func judgeSlot(name string, s serverFacts) preflight.Check {
	c := preflight.Check{Subject: "slot " + name, State: preflight.OK, Detail: "lockstep makes it at its first start"}
	switch f := s.Slot; {
	case f == nil:
	case f.Type != "logical" || f.Plugin != "pgoutput" || f.TwoPhase:
		c.State, c.Detail = preflight.Fail, fmt.Sprintf("is not lockstep's: %s %s, two_phase %t", f.Type, f.Plugin, f.TwoPhase)
		c.Hint = "rename the group, or drop the slot if nobody needs it"
	case f.Database != s.Database:
		c.State, c.Detail = preflight.Fail, fmt.Sprintf("belongs to database %q", f.Database)
		c.Hint = "slots are shared by all databases of a server: rename one of the groups"
	case f.WalStatus == "lost":
		c.State, c.Detail = preflight.Warn, "was invalidated"
		if f.Invalidation != "" {
			c.Detail += " (" + f.Invalidation + ")"
		}
		c.Hint = "lockstep makes a new one and reads all tables anew; raise max_slot_wal_keep_size to avoid this"
	case f.WalStatus == "unreserved":
		c.State, c.Detail = preflight.Warn, "is about to lose WAL that was not read yet"
		c.Hint = "start lockstep, or raise max_slot_wal_keep_size"
	default:
		c.Detail = "exists"
	}
	return c
}

// judgeScanned is about a member whose rows are read and whose log is not.
func judgeScanned(s serverFacts, tables []tableFacts) []preflight.Check {
	as := "scan_only"
	checks := judgeRole(s, tables)
	if s.Recovery { // it has no subscriptions whose origins could be read
		as = "physical standby"
		checks = slices.DeleteFunc(checks, func(c preflight.Check) bool { return c.Subject == originsSubject })
	}
	role := preflight.Check{Subject: "role", State: preflight.OK, Detail: as + ": its rows are read again and again, its log is not"}
	return append(append([]preflight.Check{role}, checks...), judgeTables(s, tables)...)
}

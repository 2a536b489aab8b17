package postgres

import (
	"fmt"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// service is a managed one, on which nobody but who runs it is a superuser. What its customers may do is from its documentation:
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.FeatureSupport.LogicalReplication.html,
// https://cloud.google.com/sql/docs/postgres/replication/configure-logical-replication,
// https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-logical.
type service struct {
	name     string
	owner    string // the superuser of who runs it
	admin    string // the role of its customers' administrators
	replica  string // the role whose members may replicate; empty: those with the attribute, which admin may give
	settings string // where settings are
	logical  string // what makes wal_level logical there
}

var services = []service{
	{name: "Amazon RDS", owner: "rdsadmin", admin: "rds_superuser", replica: "rds_replication", settings: "in the parameter group of the instance (on Aurora, of the cluster)", logical: "rds.logical_replication = 1"},
	{name: "Google Cloud SQL", owner: "cloudsqladmin", admin: "cloudsqlsuperuser", settings: "among the flags of the instance", logical: "cloudsql.logical_decoding = on"},
	{name: "Azure Database for PostgreSQL", owner: "azuresu", admin: "azure_pg_admin", settings: "among the server parameters", logical: "wal_level = logical"},
}

// service is the one that runs the server; nil: nobody does, as far as its roles tell.
func (s serverFacts) service() *service {
	for i, known := range services {
		if s.Owner == known.owner && s.Admin == known.admin {
			return &services[i]
		}
	}
	return nil
}

// client is the program that scripts for the server are for.
func (s serverFacts) client() string {
	if managed := s.service(); managed != nil {
		return "psql, as a member of " + managed.admin + " that owns the tables, in its database"
	}
	return "psql, as a superuser in its database"
}

// set fills in what gives a setting its value: SQL, or on a managed service, where that is done.
func (s serverFacts) set(c *preflight.Check, name, value string, restart bool) {
	managed := s.service()
	if managed == nil {
		c.SQL, c.Restart = fmt.Sprintf("ALTER SYSTEM SET %s = '%s';\nSELECT pg_catalog.pg_reload_conf();", name, value), restart
		return
	}
	setting := fmt.Sprintf("%s = %s", name, value)
	if name == "wal_level" {
		setting = managed.logical
	}
	hint := "set " + setting + " " + managed.settings + " of " + managed.name
	if restart {
		hint += ", and restart it"
	}
	if c.Hint != "" {
		hint += "; " + c.Hint
	}
	c.Hint = hint
}

// only fills in a statement for superusers; on a managed service, who else may be able to.
func (s serverFacts) only(c *preflight.Check, statement, otherwise string) {
	managed := s.service()
	if managed == nil {
		c.SQL = statement
		return
	}
	c.Hint = fmt.Sprintf("%s lets no customer be a superuser, for whom this is: %s %s", managed.name, preflight.OneLine(statement), otherwise)
}

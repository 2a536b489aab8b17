// Package config reads lockstep's configuration file.
//
// Reading is strict: a key that this version does not know is an error, and every error of the file is reported at once,
// each on one line with the place in the file and what to do about it.
package config

import (
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/names"
)

// What a file that leaves the key out gets.
const (
	DefaultListen          = "127.0.0.1:9640"
	DefaultLagBudget       = 30 * time.Second
	DefaultMaxInFlightRows = 1_000_000
)

// The engines. MySQL and MariaDB are one to lockstep, which asks each server what it is.
const (
	Postgres = "postgres"
	MySQL    = "mysql"
	MariaDB  = "mariadb"
)

var engines = []string{Postgres, MySQL, MariaDB}

// Config is a whole configuration, checked, with all defaults filled in.
type Config struct {
	DataDir         string
	Listen          string        // host:port of the HTTP API
	LagBudget       time.Duration // of groups that set none
	Groups          []Group
	MaxInFlightRows int64 // bound of each group's in-flight journal
	Alerts          Alerts
	Audit           Audit
	Roles           map[string]string // viewer, operator or auditor, by user; nil: every one may do everything
	AllowedHosts    []string          // names under which the API is called, beside addresses and those of Listen and ExternalURL
	SHA256          string            // of the file
}

// Group is one replication group.
type Group struct {
	Name      string        // [a-z0-9_]{1,40}: it becomes part of the names of slots and publications
	Engine    string        // one of the engines
	Budget    time.Duration // the group's own lag budget, or the file's; see [Group.LagBudget]
	Reference string        // name of a member; empty: found out
	Members   []Member
	Tables    Tables
	Scrub     Scrub
	Expected  []Expected
	Canary    Canary
}

// Member is one server of a group.
type Member struct {
	Name         string
	DSN          string // without a password: PostgreSQL URL or key=value form; mysql:// URL
	PasswordFile string
	EnvPassword  Secret // that came with the DSN from the environment
	ScanOnly     bool   // its log is not read, only its rows are
	// MaxRetainedWAL is how many bytes of its log a PostgreSQL server may keep for lockstep; 0: as many as there are.
	MaxRetainedWAL int64
}

// DefaultMaxRetainedWAL is what a member's server keeps for lockstep at most where the file says nothing: little enough for most disks.
const DefaultMaxRetainedWAL = 10 << 30

// Alerts says who is told of divergences.
type Alerts struct {
	Receivers    []Receiver
	Alertmanager []Alertmanager // every instance of a cluster
	ExternalURL  string         // where people reach lockstep, for links; may be empty
	RunbookURL   string         // the folder of the runbooks; empty: the project's
	Watchdog     bool           // Alertmanager is told of an alert that always fires
}

// Load reads and checks the file at path. Its error joins one [*Error] a problem.
func Load(path string) (*Config, error) {
	data, err := ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Group returns the group of that name, or nil.
func (c *Config) Group(name string) *Group {
	for i := range c.Groups {
		if c.Groups[i].Name == name {
			return &c.Groups[i]
		}
	}
	return nil
}

// Names are those of the groups and members. Which tables there are the servers know.
func (c *Config) Names() names.Groups {
	var all names.Groups
	for _, g := range c.Groups {
		one := names.Group{Name: g.Name}
		for _, m := range g.Members {
			one.Members = append(one.Members, m.Name)
		}
		all = append(all, one)
	}
	return all
}

// Member returns the member of that name, or nil.
func (g *Group) Member(name string) *Member {
	for i := range g.Members {
		if g.Members[i].Name == name {
			return &g.Members[i]
		}
	}
	return nil
}

// LagBudget says how long a difference in table, a qualified name, may last before it is a divergence.
func (g Group) LagBudget(table string) time.Duration {
	if o := g.Tables.override(table); o != nil && o.LagBudget > 0 {
		return o.LagBudget
	}
	return g.Budget
}

// RowIndex reports whether a digest of each row of table, a qualified name, is kept, or only sums over ranges of rows.
func (g Group) RowIndex(table string) bool {
	o := g.Tables.override(table)
	return o == nil || !o.NoRowIndex
}

// ExcludeColumns lists the columns of table, a qualified name, that are not compared.
func (g Group) ExcludeColumns(table string) []string {
	if o := g.Tables.override(table); o != nil {
		return o.ExcludeColumns
	}
	return nil
}

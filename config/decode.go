package config

import (
	"crypto/sha256"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
)

var (
	groupName  = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)
	memberName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

// Parse checks a file's content. name is what errors call the file. Its error joins one [*Error] a problem.
func Parse(name string, data []byte) (*Config, error) {
	p := &problems{file: name}
	root, ok := parseYAML(p, data)
	if !ok {
		return nil, p.err()
	}
	c := decodeConfig(root)
	c.SHA256 = fmt.Sprintf("%x", sha256.Sum256(data))
	if err := p.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func decodeConfig(root node) *Config {
	f := root.fields("data_dir", "listen", "lag_budget", "groups", "max_in_flight_rows", "alerts", "audit", "roles", "web")
	c := &Config{
		DataDir:         f["data_dir"].expanded(),
		Listen:          decodeListen(f["listen"]),
		LagBudget:       f["lag_budget"].lagBudget(DefaultLagBudget),
		MaxInFlightRows: f["max_in_flight_rows"].count(DefaultMaxInFlightRows),
		Alerts:          decodeAlerts(f["alerts"]),
		Audit:           decodeAudit(f["audit"]),
		Roles:           decodeRoles(f["roles"]),
		AllowedHosts:    decodeHosts(f["web"]),
	}
	f["data_dir"].require("say where lockstep keeps its store, such as /var/lib/lockstep")
	f["groups"].require("list at least one group of servers that must hold the same rows")
	names := unique{}
	for _, item := range f["groups"].items() {
		c.Groups = append(c.Groups, decodeGroup(item, names, c))
	}
	if f["groups"].isList() && len(c.Groups) == 0 {
		f["groups"].fail("lists no group", "list at least one group of servers that must hold the same rows")
	}
	return c
}

// require reports a key that is not there. One with an empty value was reported when it was read.
func (n node) require(remedy string) {
	if n.describes != nil {
		n.describes.required = true
	}
	n.required = append(n.required, n.path)
	if !n.present() {
		n.fail("is missing", remedy)
	}
}

// unique remembers on which line a name was first given.
type unique map[string]int

func (u unique) check(n node, name string) {
	if first, ok := u[name]; ok {
		n.fail(fmt.Sprintf("%q is already on line %d", name, first), "every one needs its own")
		return
	}
	u[name] = n.line
}

func decodeListen(n node) string {
	text := n.text()
	if text == "" {
		return DefaultListen
	}
	_, port, err := net.SplitHostPort(text)
	number, notNumber := strconv.ParseUint(port, 10, 16)
	if err != nil || notNumber != nil || number == 0 && port != "0" {
		n.fail(fmt.Sprintf("%q is not an address", text), "write host:port, such as "+DefaultListen)
	}
	return text
}

func decodeGroup(n node, names unique, c *Config) Group {
	f := n.fields("name", "engine", "lag_budget", "reference", "members", "tables", "scrub", "expected_writes", "canary")
	engine := decodeEngine(f["engine"])
	g := Group{
		Name:      decodeName(f["name"], names, groupName, "use 1 to 40 of a-z, 0-9 and _: it becomes part of slot names"),
		Engine:    engine,
		Budget:    f["lag_budget"].lagBudget(c.LagBudget),
		Reference: f["reference"].text(),
		Tables:    decodeTables(f["tables"], engine),
	}
	f["members"].require("list the servers of the group")
	members := unique{}
	for _, item := range f["members"].items() {
		g.Members = append(g.Members, decodeMember(item, members, engine))
	}
	if f["members"].isList() && len(g.Members) < 2 {
		f["members"].fail(fmt.Sprintf("lists %d", len(g.Members)), "a group needs at least 2 members to compare")
	}
	if g.Reference != "" && g.Member(g.Reference) == nil {
		f["reference"].fail(fmt.Sprintf("%q is no member of the group", g.Reference), "name one of its members, or leave the key out")
	}
	g.Scrub = decodeScrub(f["scrub"], g.Budget)
	for _, item := range f["expected_writes"].items() {
		g.Expected = append(g.Expected, decodeExpected(item, &g))
	}
	if g.Canary = decodeCanary(f["canary"], &g); g.Canary.Table != "" {
		g.Expected = append(g.Expected, g.Canary.expected())
	}
	checkScanOnly(f, g)
	return g
}

func decodeName(n node, names unique, valid *regexp.Regexp, remedy string) string {
	n.require(remedy)
	name := n.text()
	if name == "" {
		return ""
	}
	if !valid.MatchString(name) {
		n.fail(fmt.Sprintf("%q is not a usable name", name), remedy)
		return name
	}
	names.check(n, name)
	return name
}

// decodeEngine returns an empty engine if none can be made out.
func decodeEngine(n node) string {
	n.require("write " + alternatives(engines))
	return n.word("unknown engine %q", engines...)
}

func decodeMember(n node, names unique, engine string) Member {
	f := n.fields("name", "dsn", "password_file", "scan_only", "max_retained_wal")
	m := Member{
		Name:         decodeName(f["name"], names, memberName, "use letters, digits, dot, hyphen and _"),
		PasswordFile: f["password_file"].expanded(),
		ScanOnly:     f["scan_only"].claim(),
	}
	switch retained := f["max_retained_wal"].sizeOrOff(DefaultMaxRetainedWAL); {
	case engine == Postgres:
		m.MaxRetainedWAL = retained
	case engine != "" && f["max_retained_wal"].present():
		f["max_retained_wal"].fail("is for PostgreSQL", "remove it: these servers keep their log for as long as binlog_expire_logs_seconds says, whoever reads it")
	}
	f["dsn"].require(dsnExample(engine))
	m.DSN, m.EnvPassword = decodeDSN(f["dsn"], engine)
	if m.PasswordFile != "" && m.EnvPassword != "" {
		f["password_file"].fail("the dsn brings a password too", "keep one of the two")
	}
	return m
}

func decodeTables(n node, engine string) Tables {
	n.require(`say which tables to watch, such as include: ["public.*"]`)
	f := n.fields("include", "exclude", "overrides")
	t := Tables{Include: decodePatterns(f["include"]), Exclude: decodePatterns(f["exclude"])}
	if _, mapping := pairs(n.ast); mapping || n.describes != nil {
		f["include"].require(`list patterns of schema.table, such as ["public.*"]`)
	}
	if f["include"].isList() && len(t.Include) == 0 {
		f["include"].fail("lists no table", `list patterns of schema.table, such as ["public.*"]`)
	}
	names := unique{}
	for _, item := range f["overrides"].items() {
		t.Overrides = append(t.Overrides, decodeOverride(item, names, t, engine))
	}
	return t
}

// decodePatterns refuses what other tools give a meaning, since here it would silently match nothing.
func decodePatterns(n node) []string {
	var patterns []string
	for _, item := range n.items() {
		pattern := item.text()
		if pattern == "" {
			continue
		}
		rest := strings.TrimPrefix(pattern, quotedSchema.FindString(pattern))
		if i := strings.IndexAny(rest, `[]{}\"`); i >= 0 {
			item.fail(fmt.Sprintf("%q holds %q", pattern, rest[i:i+1]), "only * and ? are special, names are written without quotes; ? stands for such a character in a name")
		} else if !strings.ContainsAny(pattern, ".*") {
			item.fail(fmt.Sprintf("%q names no schema", pattern), "write schema.table, such as public."+pattern)
		}
		patterns = append(patterns, pattern)
	}
	return patterns
}

func decodeOverride(n node, names unique, t Tables, engine string) Override {
	f := n.fields("table", "exclude_columns", "lag_budget", "scrub_every", "row_index")
	o := Override{
		Table:          f["table"].text(),
		ExcludeColumns: f["exclude_columns"].texts(),
		LagBudget:      f["lag_budget"].lagBudget(0),
		ScrubEvery:     decodeEvery(f["scrub_every"], 0),
		NoRowIndex:     decodeRowIndex(f["row_index"], engine),
	}
	f["table"].require("write schema.table")
	switch {
	case o.Table == "":
	case strings.ContainsAny(o.Table, "*?") || !strings.Contains(o.Table, "."):
		f["table"].fail(fmt.Sprintf("%q is not one table", o.Table), "write schema.table without * and ?")
	case !t.Match(o.Table) && len(t.Include) > 0:
		f["table"].fail(fmt.Sprintf("%q is not among the watched tables", o.Table), "include it, or remove the override")
	default:
		names.check(f["table"], o.Table)
	}
	return o
}

func decodeRowIndex(n node, engine string) (off bool) {
	if !n.present() {
		return false
	}
	off = n.word("%q is neither on nor off", "on", "off") == "off"
	if off && engine == Postgres {
		n.fail("is off", "PostgreSQL's log does not say what a row was before a change, so the index has to be kept: remove the key")
	}
	return off
}

func decodeAlerts(n node) Alerts {
	f := n.fields("webhook", "alertmanager", "pagerduty", "slack", "external_url", "runbook_url", "watchdog")
	var a Alerts
	names := unique{}
	for _, kind := range []string{WebhookKind, PagerDutyKind, SlackKind} {
		for _, item := range f[kind].items() {
			a.Receivers = append(a.Receivers, decodeReceiver(item, kind, names))
		}
	}
	urls := unique{}
	for _, item := range f["alertmanager"].items() {
		a.Alertmanager = append(a.Alertmanager, decodeAlertmanager(item, urls))
	}
	if a.ExternalURL = f["external_url"].text(); a.ExternalURL != "" {
		checkHTTP(f["external_url"], a.ExternalURL, "write it like https://lockstep.example")
	}
	if a.RunbookURL = f["runbook_url"].text(); a.RunbookURL != "" {
		checkHTTP(f["runbook_url"], a.RunbookURL, "write it like https://wiki.example/lockstep/runbooks")
	}
	if a.Watchdog = f["watchdog"].claim(); a.Watchdog && len(a.Alertmanager) == 0 {
		f["watchdog"].fail("is on without alertmanager", "list the Alertmanagers that are to be told, or remove it")
	}
	return a
}

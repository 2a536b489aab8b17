package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// draft is a configuration that is being made.
type draft struct {
	*initFlags
	engine    string
	members   []draftMember
	named     bool   // the command line names the group
	database  string // that the first DSN names of a server that could be asked; may be empty
	unasked   []string
	reference string   // empty: not known
	followers []string // replicate from it
	unseen    bool     // nor is it known of all from which server they replicate
	schemas   []string
	unfit     []unfitTable
}

type draftMember struct{ name, dsn, database, version string }

type unfitTable struct{ name, why string }

var (
	namedDSN = regexp.MustCompile(`^(?:([A-Za-z0-9._-]+)=)?([a-z]+)://`)
	badName  = regexp.MustCompile(`[^a-z0-9_]+`)
)

// engines are the engines by the scheme of a DSN.
var engines = map[string]string{"postgres": config.Postgres, "postgresql": config.Postgres, "mysql": config.MySQL, "mariadb": config.MariaDB}

// meant reads what the command line says of members.
func (d *draft) meant(args []string) error {
	for _, arg := range args {
		m := namedDSN.FindStringSubmatch(arg)
		if m == nil || engines[m[2]] == "" {
			// Nothing of it is printed: there may be a password in it.
			return errors.New("a DSN is a URL: postgres://lockstep@10.0.0.1/shop, mysql://lockstep@10.0.0.1:3306/shop or mariadb://…, with NAME= before it if you like")
		}
		if d.engine = cmp.Or(d.engine, engines[m[2]]); d.engine != engines[m[2]] {
			return errors.New("the servers are of two engines: a group is of one")
		}
		dsn := strings.TrimPrefix(arg, m[1]+"=")
		u, err := url.Parse(dsn)
		if err != nil {
			return errors.New("a DSN is not a well-formed URL: in user and password write @ as %40, / as %2F, : as %3A and # as %23")
		}
		name := cmp.Or(m[1], u.Hostname())
		taken := func(name string) bool {
			return slices.ContainsFunc(d.members, func(m draftMember) bool { return m.name == name })
		}
		if taken(name) && m[1] == "" && u.Port() != "" {
			name += "-" + u.Port()
		}
		d.members = append(d.members, draftMember{name: name, dsn: dsn, database: strings.Trim(u.Path, "/")})
	}
	d.named = d.name != ""
	d.call()
	return nil
}

// call takes the database, and the group's name unless it has one, from the first member that is not known to have turned lockstep
// down: there may be no database of that name.
func (d *draft) call() {
	d.database = ""
	for _, m := range d.members {
		if !slices.Contains(d.unasked, m.name) {
			d.database = cmp.Or(d.database, m.database)
		}
	}
	if !d.named {
		d.name = cmp.Or(strings.Trim(badName.ReplaceAllString(strings.ToLower(d.database), "_"), "_"), "main")
	}
}

// learn takes from what the servers answered who they are, which replicate from which, and which tables there are.
func (d *draft) learn(answered []*preflight.Report, proofs preflight.Proofs) error {
	for i := range d.members {
		at := slices.IndexFunc(answered, func(r *preflight.Report) bool { return r.Member == d.members[i].name })
		if at < 0 || !answered[at].Asked() {
			d.unasked = append(d.unasked, d.members[i].name)
			continue
		}
		d.members[i].version = answered[at].Version
	}
	d.call()
	d.unseen = preflight.Unseen(answered)
	d.reference, _, _ = preflight.Reference(preflight.TiesOf(answered, func(string) bool { return false }), proofs) // or the file says that it is to be named
	wrong := preflight.SameServer(answered, proofs)
	if len(d.unasked) == 0 {
		wrong = append(wrong, preflight.Strays(answered, d.reference)...)
	}
	for _, c := range wrong {
		if c.State == preflight.Fail {
			return usageError(fmt.Errorf("%s: %s", c.Detail, c.Hint))
		}
	}
	d.followers = preflight.Followers(answered, d.reference)
	if len(d.unasked) == len(d.members) {
		return nil
	}
	tell := slices.IndexFunc(answered, func(r *preflight.Report) bool { return r.Member == d.reference || d.reference == "" && r.Asked() })
	return d.choose(answered[tell])
}

// choose takes the tables of a member, those that may not be read yet too: what is missing for that can be granted.
func (d *draft) choose(r *preflight.Report) error {
	for _, t := range r.Tables {
		schema := config.SchemaOf(t.Name)
		if t.Unfit != "" {
			d.unfit = append(d.unfit, unfitTable{t.Name, t.Unfit})
		}
		if !slices.Contains(d.schemas, schema) {
			d.schemas = append(d.schemas, schema)
		}
	}
	if len(r.Tables) == 0 && r.Whole {
		return undeterminedError(fmt.Errorf("%s has no table: correct the database in its dsn", r.Member))
	}
	if len(d.schemas) == 0 && d.engine != config.Postgres && d.database != "" { // nothing was granted that would show its tables
		d.schemas = []string{d.database}
	}
	return nil
}

// yaml is the configuration as far as it is known.
func (d *draft) yaml() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# lockstep: which servers must hold the same rows. Written by lockstep init; lockstep check says what is missing on the servers.")
	line("# All keys: https://github.com/lockstep-cdc/lockstep/blob/main/docs/configuration.md")
	line("")
	line("data_dir: %q", d.data)
	line("listen: %s   # HTTP API and metrics", config.DefaultListen)
	line("lag_budget: %v   # how long a difference may last before it is a divergence", config.DefaultLagBudget)
	line("groups:")
	if d.engine == config.Postgres {
		line("  - name: %s   # slots and publications are called lockstep_%s", d.name, d.name)
	} else {
		line("  - name: %s", d.name)
	}
	line("    engine: %s", d.engine)
	switch {
	case len(d.followers) > 0:
		line("    # Seen to replicate from %s: %s. lockstep finds that out by itself; to be independent of that, say so:", d.reference, strings.Join(d.followers, ", "))
		line("    # reference: %s", d.reference)
	case d.unseen:
		line("    # Which of them the others replicate from may not be seen yet: lockstep finds that out by itself. To be independent of that, say so:")
		line("    # reference: %s", d.members[0].name)
	default:
		line("    # None of them was seen to replicate from another. Say which one the others are held against:")
		line("    # reference: %s", cmp.Or(d.reference, d.members[0].name))
	}
	line("    members:")
	for _, m := range d.members {
		line("      - name: %q   # %s", m.name, comment(m.version))
		line("        dsn: %q", m.dsn)
		if d.password != "" {
			line("        password_file: %q", d.password)
		}
	}
	line("    tables:")
	line("      include: [%s]   # * is any run of characters, ? any one", quoted(d.schemas))
	if len(d.unfit) > 0 {
		line("      exclude:   # what cannot be watched as it is")
	}
	for _, t := range d.unfit {
		line("        - %q   # %s", pattern(t.name), comment(t.why))
	}
	return b.Bytes()
}

// quoted are the patterns for all tables of schemas; before they are known, for all.
func quoted(schemas []string) string {
	list := []string{`"*"`}
	if len(schemas) > 0 {
		list = nil
	}
	for _, s := range schemas {
		list = append(list, fmt.Sprintf("%q", pattern(s)+".*"))
	}
	return strings.Join(list, ", ")
}

// pattern stands for a name: what patterns may not hold is any character.
func pattern(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`[]{}\"*`, r) {
			return '?'
		}
		return r
	}, name)
}

// comment keeps what servers say on its line.
func comment(text string) string { return printable(text) }

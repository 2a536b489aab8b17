package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// initFlags are those of lockstep init.
type initFlags struct{ out, name, password, data string }

func newInitCommand() *cobra.Command {
	f := &initFlags{}
	c := &cobra.Command{
		Use:   "init [NAME=]DSN [NAME=]DSN...",
		Short: "Write a configuration for servers from what is found on them",
		Long: `Write a configuration for the servers of one group: a primary, or publisher, and those that replicate it. They are asked who they are
and which tables they have, and nothing is changed. What is found is in the file as comments. A file that is there is not overwritten.

Members are called by their host, unless a NAME is given. Passwords belong into a file.`,
		Example: `  lockstep init postgres://lockstep@10.0.0.1/shop postgres://lockstep@10.0.1.1/shop --password-file /etc/lockstep/password
  lockstep init eu-1=mysql://lockstep@10.0.0.1/shop us-1=mysql://lockstep@10.0.1.1/shop --output -`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args)
		},
	}
	c.Flags().StringVar(&f.out, "output", defaultConfig, "`FILE` to write; - for standard output")
	c.Flags().StringVar(&f.name, "name", "", "`NAME` of the group (default: that of the database)")
	c.Flags().StringVar(&f.password, "password-file", "", "`FILE` with the password on all servers")
	c.Flags().StringVar(&f.data, "data-dir", "/var/lib/lockstep", "`DIR` where lockstep keeps its store")
	return c
}

func (f *initFlags) run(ctx context.Context, stdout, stderr io.Writer, args []string) error {
	d := &draft{initFlags: f}
	if err := d.meant(args); err != nil {
		return usageError(err)
	}
	c, err := config.Parse("lockstep init", d.yaml())
	if err != nil {
		return usageError(err)
	}
	if err := d.ask(ctx, &c.Groups[0]); err != nil {
		return err
	}
	text := d.yaml()
	if _, err := config.Parse(f.out, text); err != nil {
		return err // a bug: it was just made
	}
	if f.out == "-" {
		_, err = stdout.Write(text)
		return err
	}
	if err := writeNew(f.out, text); err != nil {
		return usageError(err)
	}
	_, err = fmt.Fprintf(stderr, "%s was written: read it, then run lockstep check -c %s\n", f.out, f.out)
	return err
}

func writeNew(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: name another file with --output, or remove it", path)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

// draft is a configuration that is being made.
type draft struct {
	*initFlags
	engine    string
	members   []draftMember
	reference string // empty: the servers were not asked yet, or nobody can say
	unknown   string // why nobody can say which member is the reference
	schemas   []string
	unfit     []unfitTable
}

type draftMember struct{ name, dsn, version string }

type unfitTable struct{ name, why string }

var (
	namedDSN = regexp.MustCompile(`^(?:([A-Za-z0-9._-]+)=)?([a-z]+)://`)
	badName  = regexp.MustCompile(`[^a-z0-9_]+`)
)

// engines are the engines by the scheme of a DSN.
var engines = map[string]string{"postgres": config.Postgres, "postgresql": config.Postgres, "mysql": config.MySQL, "mariadb": config.MariaDB}

// meant reads what the command line says of members.
func (d *draft) meant(args []string) error {
	database := ""
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
		d.members = append(d.members, draftMember{name: name, dsn: dsn})
		database = cmp.Or(database, strings.Trim(u.Path, "/"))
	}
	d.name = cmp.Or(d.name, strings.Trim(badName.ReplaceAllString(strings.ToLower(database), "_"), "_"), "main")
	return nil
}

// ask asks the servers who they are and which tables they have.
func (d *draft) ask(ctx context.Context, g *config.Group) error {
	readers, err := daemon.OpenReaders(ctx, g, nil, nil)
	if errors.Is(err, preflight.ErrNoReference) { // which tables there are, any member says
		d.unknown = err.Error()
		named := *g
		named.Reference = d.members[0].name
		readers, err = daemon.OpenReaders(ctx, &named, nil, nil)
	}
	if err != nil {
		return startError(err)
	}
	defer readers.Close()
	for i := range d.members {
		server, err := readers.Members[d.members[i].name].Server(ctx)
		if err != nil {
			return unreachableError(err)
		}
		d.members[i].version = server.Version
	}
	tables, err := readers.Members[readers.Reference].Tables(ctx, func(string) bool { return true })
	if err != nil {
		return undeterminedError(err)
	}
	for _, t := range tables {
		schema, _, _ := strings.Cut(t.Name, ".")
		if t.Problem != "" {
			d.unfit = append(d.unfit, unfitTable{t.Name, t.WhyNot()})
		}
		if !slices.Contains(d.schemas, schema) {
			d.schemas = append(d.schemas, schema)
		}
	}
	if len(tables) == 0 {
		return undeterminedError(fmt.Errorf("%s has no table that lockstep may see: grant its user SELECT, or correct the database in the dsn", readers.Reference))
	}
	if d.unknown == "" {
		d.reference = readers.Reference
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
	line("  - name: %s   # slots and publications are called lockstep_%s", d.name, d.name)
	line("    engine: %s", d.engine)
	if d.reference != "" {
		line("    # The others replicate from %s: lockstep finds that out by itself. To be independent of that, say so:", d.reference)
		line("    # reference: %s", d.reference)
	}
	if d.unknown != "" {
		line("    # TODO: %s.", comment(d.unknown))
		line("    # reference: %s", d.members[0].name)
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

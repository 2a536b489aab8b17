package daemon

import (
	"context"
	"maps"
	"slices"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/merkle"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/store"
)

// Tuned returns the options with a function that changes how each group is run.
func (o Options) Tuned(tune func(*monitor.Options)) Options {
	o.tune = tune
	return o
}

// Settings are the settings of a configuration that are recorded.
func Settings(c *config.Config, s *store.Store) []evidence.Setting {
	d := &Daemon{store: s}
	d.now.Store(&setup{config: c})
	return d.settings()
}

// Digests are the range digests of one table on one member, as the ledger has them.
type Digests struct {
	Epoch  cdc.Epoch
	Table  cdc.Table
	Source cdc.Source
	Ranges *merkle.Partition
	Sums   []merkle.Sum
}

// Digests returns the range digests of all tables of all members of the first group, by member and table.
func (d *Daemon) Digests(ctx context.Context) (map[[2]string]Digests, error) {
	all := make(map[[2]string]Digests)
	g := d.Groups()[0]
	ids := make(map[string]cdc.MemberID)
	for _, m := range g.Status().Members {
		ids[m.Name] = m.ID
	}
	for _, m := range g.members {
		tables, err := m.Source.Tables(ctx, g.config().Tables.Match)
		if err != nil {
			return nil, err
		}
		defined := make(map[string]cdc.Table)
		for _, t := range tables {
			defined[t.Name] = t
		}
		err = g.watched.Load().Inspect(ctx, func(l *align.Ledger) error {
			for id, epoch := range l.Epochs() {
				ranges, sums := l.RangeDigests(id, ids[m.Name])
				name := epoch.Shape.Table
				all[[2]string{m.Name, name}] = Digests{epoch, defined[name], m.Source, ranges, sums}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Entering is a group whose members have said who they are, or were it when they were watched last.
func Entering(c *config.Group, said, were map[string]cdc.Server, sources map[string]cdc.Source) *Group {
	g := (&Daemon{}).group(c)
	for name, source := range sources {
		g.members = append(g.members, member{Member: monitor.Member{Name: name, Source: source}})
	}
	maps.Copy(g.servers, said)
	maps.Copy(g.owners, were)
	return g
}

// Enter is what is done once a member has said who it is, and Orphan once all have.
func (g *Group) Enter(ctx context.Context, name string, s cdc.Server) error {
	i := slices.IndexFunc(g.members, func(m member) bool { return m.Name == name })
	return g.enter(ctx, g.members[i].Member, s)
}

// Orphan refuses a standby of no member.
func (g *Group) Orphan(member string) error { return g.orphan(member) }

// Inspect runs f on the goroutine that owns the ledger of the first group.
func (d *Daemon) Inspect(ctx context.Context, f func(*align.Ledger) error) error {
	return d.Groups()[0].watched.Load().Inspect(ctx, f)
}

package monitor

import (
	"context"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// ReadInParts has all tables read in parts. It is to be called before Run.
func (d *Daemon) ReadInParts() {
	for _, g := range d.groups {
		g.partsFrom = -1 // also of tables of which the server does not know how many rows they have
	}
}

// CanaryPatience sets how long after the lag budget a canary may be found. It is to be called before Run.
func (d *Daemon) CanaryPatience(patience time.Duration) {
	for _, g := range d.groups {
		g.canaryPatience = patience
	}
}

// Digests are the range digests of one table on one member, as the ledger has them.
type Digests struct {
	Epoch  cdc.Epoch
	Table  cdc.Table
	Source cdc.Source
	Ranges *merkle.Partition
	Sums   []merkle.Sum
}

// Digests returns the range digests of all tables of all members, by member and table.
func (g *Group) Digests(ctx context.Context) (map[[2]string]Digests, error) {
	all := make(map[[2]string]Digests)
	err := g.do(ctx, func() error {
		for id, epoch := range g.ledger.Epochs() {
			for m, f := range g.feeds {
				ranges, sums := g.ledger.RangeDigests(id, m)
				name := epoch.Shape.Table
				all[[2]string{f.Name, name}] = Digests{epoch, f.defined[name], f.Source, ranges, sums}
			}
		}
		return nil
	})
	return all, err
}

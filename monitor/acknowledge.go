package monitor

import (
	"context"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
)

// Acknowledge notes who has taken a divergence on, and records it. It returns the divergence, or nil if the group has none of
// that id. It may be called from any goroutine.
func (g *Group) Acknowledge(ctx context.Context, id string, a finding.Acknowledgement) (*finding.Divergence, error) {
	var d *finding.Divergence
	err := g.Divergences(func(v *finding.Divergence) bool {
		if v.ID == id {
			d = v
		}
		return d == nil
	})
	if d == nil || err != nil {
		return nil, err
	}
	d.Acknowledged = &a
	err = g.do(ctx, func() error {
		if err := g.ledger.Acknowledge(id, a); err != nil {
			return err
		}
		if g.opt().Evidence.Every > 0 {
			g.state.Record(evidence.Event{Type: evidence.Acknowledge, Group: g.opt().Name, Time: time.Now(), Data: evidence.AcknowledgeData{
				ID: id, Table: d.Table, Member: d.Member, By: a.By, Ticket: a.Ticket, Note: a.Note,
			}})
		}
		return g.commit()
	})
	return d, err
}

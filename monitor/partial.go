package monitor

import (
	"github.com/lockstep-cdc/lockstep/cdc"
)

// markPartial keeps tables from being compared of which a lane carries only a part, because someone wants it so: what is
// left out would look like a difference.
func (g *Group) markPartial(p *cdc.Progress) {
	for _, ln := range p.Lanes {
		for name, hold := range ln.Tables {
			if hold == "" {
				ln.Tables[name] = ln.LeavesOut(g.feeds[g.ref].defined[name], g.opt().Exclude(name))
			}
		}
	}
}

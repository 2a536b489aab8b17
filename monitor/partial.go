package monitor

import (
	"fmt"

	"lockstep/cdc"
)

// markPartial keeps tables from being compared of which a lane carries only a part, because someone wants it so: what is
// left out would look like a difference.
func (g *Group) markPartial(p *cdc.Progress) {
	for _, ln := range p.Lanes {
		for name, hold := range ln.Tables {
			if hold == "" {
				ln.Tables[name] = leftOut(ln, g.feeds[g.ref].defined[name])
			}
		}
	}
}

// leftOut says what the publications of a lane leave out of a table; nothing if one of them carries all of it.
func leftOut(ln cdc.Lane, t cdc.Table) string {
	reason := ""
	for _, publication := range ln.Publications {
		left, carries := t.Publications[publication]
		switch {
		case carries && left == "":
			return ""
		case carries:
			reason = fmt.Sprintf("publication %q leaves out %s", publication, left)
		}
	}
	return reason
}

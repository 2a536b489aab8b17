package cdc

import "fmt"

// LeavesOut says what the publications of the lane leave out of a table, as its author defines it; nothing if one of them
// carries all of it.
func (ln Lane) LeavesOut(t Table) string {
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

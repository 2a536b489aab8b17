package cdc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// OfAuthor leaves out the lanes that read from another server than the one which confirmed these slots: their positions are of
// another log. A GTID is the same in every log, and a standby has the log of its primary.
func OfAuthor(lanes []Lane, confirmed map[string]TxSet) []Lane {
	return slices.DeleteFunc(slices.Clone(lanes), func(ln Lane) bool {
		_, ours := confirmed[ln.Slot]
		return !ours && ln.Name != GTIDLane && ln.Name != WALLane
	})
}

// Route finds the lane that brings a table, among those that read from its author. hold says why rows cannot be compared that
// come by it: two lanes bring the table, and then lane is nil, or the lane says so. Without either, nothing brings it.
func Route(lanes []Lane, table string) (lane *Lane, hold string) {
	for i, ln := range lanes {
		why, carries := ln.Tables[table]
		switch {
		case !carries && ln.Name != WALLane: // that one brings all there is
		case lane != nil:
			return nil, fmt.Sprintf("%s and %s both replicate it", lane.Title, ln.Title)
		default:
			lane, hold = &lanes[i], why
		}
	}
	return lane, hold
}

// LeavesOut says what the publications of the lane leave out of a table, as its author defines it; nothing if one of them
// carries all of it. Columns that are excluded need not travel.
func (ln Lane) LeavesOut(t Table, excluded []string) string {
	reason := ""
	for _, publication := range ln.Publications {
		c, carries := t.Publications[publication]
		switch left := c.missed(excluded); {
		case carries && left == "":
			return ""
		case carries:
			reason = fmt.Sprintf("publication %q leaves out %s", publication, left)
		}
	}
	return reason
}

// missed says what is compared and not carried; nothing if there is nothing.
func (c Carried) missed(excluded []string) string {
	var columns []string
	for _, name := range c.Columns {
		if !slices.Contains(excluded, name) {
			columns = append(columns, strconv.Quote(name))
		}
	}
	switch {
	case c.Without != "" || len(columns) == 0:
		return c.Without
	case len(columns) == 1:
		return "column " + columns[0] + ": name it in exclude_columns"
	}
	return "columns " + strings.Join(columns, ", ") + ": name them in exclude_columns"
}

package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/monitor"
)

// StartError says why lockstep cannot begin to watch.
type StartError struct {
	Err         error
	Unreachable bool // a member does not answer, rather than being set up wrongly
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// fitTables refuses a member none of whose tables, or not all of them, can be watched as they are.
func fitTables(ctx context.Context, c *config.Group, m monitor.Member) error {
	tables, err := m.Source.Tables(ctx, c.Tables.Match)
	if err != nil {
		return &StartError{Err: err, Unreachable: !cdc.IsSetup(err)}
	}
	if len(tables) == 0 {
		return &StartError{Err: fmt.Errorf("member %s has no table that matches tables.include: correct the patterns, or the database in its dsn", m.Name)}
	}
	var problems []error
	for _, t := range tables {
		if t = monitor.Watchable(t, c.ScrubEvery(t.Name), c.RowIndex(t.Name)); t.Problem != "" {
			problems = append(problems, &StartError{Err: fmt.Errorf("member %s: table %s: %s", m.Name, t.Name, t.WhyNot())})
		}
	}
	return errors.Join(problems...)
}

package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// preflight asks all members who they are and returns the name of the reference. A member that was watched before may
// be out of reach: it is waited for; with resume also one that is set up wrongly.
func (d *Daemon) preflight(ctx context.Context, c *config.Group, members []monitor.Member, resume bool) (string, error) {
	state, err := d.store.Group(c.Name)
	if err != nil {
		return "", err
	}
	defer state.Close()
	watched, err := state.Watched()
	if err != nil {
		return "", err
	}
	var all roll
	for i := range members {
		m := &members[i]
		err := d.meet(ctx, c, m, &all, watched[m.Name])
		var start *StartError
		if errors.As(err, &start) && (start.Unreachable || resume) && watched[m.Name] {
			d.log.Warn("member does not answer; lockstep waits for it", "group", c.Name, "member", m.Name, "err", err.Error())
			continue
		}
		if err != nil {
			return "", err
		}
	}
	if err := all.checkStandbys(); err != nil {
		return "", err
	}
	if c.Reference != "" {
		return c.Reference, nil
	}
	if before, err := state.Reference(); err != nil || before != "" && c.Member(before) != nil {
		return before, err
	}
	return findReference(ctx, members)
}

// roll is which servers a group's members are.
type roll struct {
	preflight.Roll
	unmet bool // a member has not said who it is
}

// checkStandbys refuses a physical standby of a server that is no member: there is nothing to hold its rows against.
func (r *roll) checkStandbys() error {
	if name := r.Orphan(); name != "" && !r.unmet {
		return &StartError{Err: fmt.Errorf("member %s is a physical standby of a server that is no member of the group: add its primary, or remove it", name)}
	}
	return nil
}

// meet refuses a member that is another one's server or that cannot be watched as it is set up. Of a member that was
// watched before, a table that is not fit any more is no reason not to watch the others. A physical standby is only scanned.
func (d *Daemon) meet(ctx context.Context, c *config.Group, m *monitor.Member, all *roll, watched bool) error {
	server, err := m.Source.Server(ctx)
	all.unmet = all.unmet || err != nil
	switch {
	case cdc.IsSetup(err):
		return &StartError{Err: err}
	case err != nil:
		return &StartError{Err: fmt.Errorf("%w: start that server, or correct its dsn", err), Unreachable: true}
	}
	m.ScanOnly = m.ScanOnly || server.Standby
	if err := all.Add(m.Name, server); err != nil {
		return &StartError{Err: err}
	}
	err = fitTables(ctx, c, *m)
	var start *StartError
	if errors.As(err, &start) && !start.Unreachable && watched {
		d.log.Error("not all tables can be watched", "group", c.Name, "member", m.Name, "err", err.Error())
		return nil
	}
	return err
}

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

// findReference returns the member whose slots the others' subscriptions read; if none is, the first.
func findReference(ctx context.Context, members []monitor.Member) (string, error) {
	var lanes []cdc.Lane
	for _, m := range members {
		p, err := m.Source.Progress(ctx)
		if err != nil {
			return "", &StartError{Err: err, Unreachable: !cdc.IsSetup(err)}
		}
		lanes = append(lanes, p.Lanes...)
	}
	best, most := "", 0
	for _, m := range members {
		if m.ScanOnly {
			continue
		}
		if best == "" {
			best = m.Name
		}
		slots, err := m.Source.Confirmed(ctx)
		if err != nil {
			return "", &StartError{Err: err, Unreachable: !cdc.IsSetup(err)}
		}
		read := 0
		for _, ln := range lanes {
			if _, ok := slots[ln.Slot]; ok {
				read++
			}
		}
		if read > most {
			best, most = m.Name, read
		}
	}
	return best, nil
}

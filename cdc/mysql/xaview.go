package mysql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// MariaDB puts XA COMMIT into the log first, and then has the engine commit what was prepared, which the place of a
// consistent view knows nothing of: a view taken in between lacks the transaction though its place is behind it. XA
// RECOVER lists a transaction until it is committed. So one that the log shows as committed can be read once it is not
// listed any more.

// endedXA is a distributed transaction that the stream has shown as committed. Its number tells it from others of its name.
type endedXA struct {
	xid    string
	number uint64
}

// mostEnded bounds what is noted while nobody reads rows. The engine is never so many commits behind the log.
const mostEnded = 10_000

// distributed notes what the stream shows of a distributed transaction. A name can be used again when the transaction that
// had it can be read.
func (s *Source) distributed(xid string, committed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !committed {
		delete(s.ended, xid)
		return
	}
	s.endings++
	s.ended[xid] = s.endings
	if len(s.ended) > 2*mostEnded {
		maps.DeleteFunc(s.ended, func(_ string, number uint64) bool { return number+mostEnded <= s.endings })
	}
}

// unseen are the distributed transactions that the stream has shown as committed and that may not be visible yet.
func (s *Source) unseen() []endedXA {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []endedXA
	for xid, number := range s.ended {
		list = append(list, endedXA{xid, number})
	}
	return list
}

// stillUnseen drops from a list what is known to be visible, given what is prepared.
func (s *Source) stillUnseen(list []endedXA, prepared []string) []endedXA {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(list, func(x endedXA) bool {
		if s.ended[x.xid] == x.number && !slices.Contains(prepared, x.xid) {
			delete(s.ended, x.xid)
		}
		return s.ended[x.xid] != x.number
	})
}

// committedXA reports whether all distributed transactions before the cut can be read.
func (v *snapshot) committedXA(ctx context.Context) (bool, error) {
	if len(v.ended) == 0 {
		return true, nil
	}
	prepared, err := v.conn.preparedXA(ctx)
	if err != nil {
		return false, err
	}
	v.ended = v.source.stillUnseen(v.ended, prepared)
	return len(v.ended) == 0, nil
}

// preparedXA asks MariaDB for the distributed transactions that are prepared.
func (c *session) preparedXA(ctx context.Context) ([]string, error) {
	rows, err := c.query(ctx, "XA RECOVER")
	if err != nil {
		return nil, fmt.Errorf("list prepared transactions: %w", err)
	}
	var list []string
	for _, r := range rows {
		format, err1 := strconv.ParseUint(r.text("formatID"), 10, 32)
		gtrid, err2 := strconv.Atoi(r.text("gtrid_length"))
		bqual, err3 := strconv.Atoi(r.text("bqual_length"))
		name := r.text("data")
		if err1 != nil || err2 != nil || err3 != nil || gtrid < 0 || bqual < 0 || gtrid+bqual != len(name) {
			return nil, errors.New("the server names a prepared transaction in a way that is not known")
		}
		list = append(list, xidText([]byte(name[:gtrid]), []byte(name[gtrid:]), format))
	}
	return list, nil
}

// The time that a distributed transaction has to be committed where its stream is not read, and between two looks at it.
const (
	timeToCommit = time.Second
	lookAgain    = 20 * time.Millisecond
)

var errPreparedXA = &cdc.SetupError{
	Problem: "which transactions can be read cannot be told while distributed transactions stay prepared",
	Hint:    "XA RECOVER lists them; end each by XA COMMIT or XA ROLLBACK",
}

// distributedEnd waits until each of the distributed transactions that are prepared now has ended. Any of them may be in
// the log as committed.
func (c *session) distributedEnd(ctx context.Context) (ended bool, err error) {
	waiting, err := c.preparedXA(ctx)
	enough := time.After(timeToCommit)
	for err == nil && len(waiting) > 0 {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-enough:
			return false, nil
		case <-time.After(lookAgain):
		}
		var prepared []string
		prepared, err = c.preparedXA(ctx)
		waiting = slices.DeleteFunc(waiting, func(xid string) bool { return !slices.Contains(prepared, xid) })
	}
	return err == nil, err
}

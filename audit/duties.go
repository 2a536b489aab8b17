package audit

import (
	"context"
	"time"

	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/fault"
)

const (
	look       = 100 * time.Millisecond // between two looks for entries
	lookBeside = time.Second            // between two looks for news of who works beside the log
	firstRetry = 250 * time.Millisecond
	lastRetry  = time.Minute
)

// setDuties says what is done for the log again and again.
func (l *Log) setDuties() {
	o := &l.options
	l.writing = &duty.Duty{
		Name: "audit_log", Every: look, Retry: firstRetry, Longest: lastRetry,
		Do: func(ctx context.Context) (time.Duration, error) { return 0, l.write(ctx) },
		Failed: func(err error, retry time.Duration) {
			o.Logger.Error("the audit log does not take entries; they are kept", "err", err.Error(), "retry", retry.String())
		},
	}
	if o.Stamps.URL != "" {
		l.stamping = &duty.Duty{Name: "audit_timestamp", First: l.firstStamp(), Every: o.Stamps.Every}
		l.beside(l.stamping, l.stamper(), &l.stamps, "a checkpoint of the audit log was not time-stamped; lockstep tries again")
	}
	if o.Copies.Endpoint != "" {
		l.copying = &duty.Duty{Name: "audit_copy", Every: o.Copies.Every}
		l.beside(l.copying, l.copier(), &l.copies, "the audit log was not copied; lockstep tries again")
	}
	if len(o.Witnesses.Of) > 0 {
		l.cosigning = &duty.Duty{Name: "audit_witness", Every: o.Witnesses.Every}
		l.beside(l.cosigning, l.cosign, &l.witnesses, "a checkpoint of the audit log was not cosigned; lockstep tries again")
	}
}

// Outcome is how it goes with what is done beside the log.
type Outcome struct {
	At     time.Time // when it was last done, since the start
	Failed string    // why it was not when it was last tried; empty: it was
}

// beside has a duty do something while no other log takes the log's place. What fails is tried again soon; what has nothing
// to do yet looks every second.
func (l *Log) beside(d *duty.Duty, do func(context.Context) (done bool, err error), outcome *Outcome, complaint string) {
	d.Retry, d.Longest = min(firstRetry, d.Every), min(lastRetry, d.Every)
	d.Failed = func(err error, retry time.Duration) {
		l.options.Logger.Warn(complaint, "err", err.Error(), "retry_in", retry.String())
	}
	d.Do = func(ctx context.Context) (next time.Duration, err error) {
		done, err := func() (bool, error) {
			l.turn.RLock()
			defer l.turn.RUnlock()
			return do(ctx)
		}()
		if ctx.Err() == nil {
			l.note(outcome, done, err)
		}
		if err == nil && !done {
			next = min(lookBeside, d.Every)
		}
		return next, err
	}
}

func (l *Log) note(outcome *Outcome, done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if outcome.Failed = ""; err != nil {
		outcome.Failed = err.Error()
	} else if done {
		outcome.At = time.Now()
	}
}

// run does a duty until ctx ends; none, if it is not one of this log's.
func (l *Log) run(ctx context.Context, d *duty.Duty) error {
	if d == nil {
		<-ctx.Done()
		return nil
	}
	d.Panicked = func(e *fault.Error) { l.options.Logger.Error(e.Error(), "duty", d.Name, "stack", string(e.Stack)) }
	_ = d.Run(ctx) // the end of ctx, which is no error here
	return nil
}

// runs is what became of the duties.
func (l *Log) runs() (all []duty.Runs) {
	for _, d := range []*duty.Duty{l.writing, l.stamping, l.copying, l.cosigning} {
		if d != nil {
			all = append(all, d.Runs())
		}
	}
	return all
}

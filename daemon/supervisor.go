package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
)

// Supervisor runs a [Daemon] and, when it is told to read the configuration anew, has it go by that or, where that cannot be done
// in place, runs another one. Nothing is lost in between: all state is in the store. If the new one cannot start, the one
// before does again.
type Supervisor struct {
	Load    func() (*config.Config, error)
	Options Options
	// Serve is told which Daemon there is now.
	Serve func(*Daemon)

	reloads chan reload
	last    atomic.Pointer[Reload]
}

// Reload is how it went when the configuration was last read.
type Reload struct {
	At time.Time
	OK bool
}

// reload is a wish to have the configuration read; the zero one is nobody's.
type reload struct{ done chan error }

// settle says how a reload went: in the log the same whoever asked for it.
func (s *Supervisor) settle(r reload, err error) {
	if r.done == nil {
		return
	}
	if err == nil {
		s.Options.Logger.Info("the configuration was taken in")
	} else {
		s.Options.Logger.Error("the new configuration cannot be used; lockstep goes on by the one before", "err", err.Error())
	}
	s.note(err)
	r.done <- err
}

// NewSupervisor returns a Supervisor that was not started. Its Options.LastReload is set.
func NewSupervisor(load func() (*config.Config, error), o Options, serve func(*Daemon)) *Supervisor {
	s := &Supervisor{Load: load, Options: o, Serve: serve, reloads: make(chan reload)}
	s.Options.LastReload = func() Reload { return *s.last.Load() }
	s.note(nil)
	return s
}

func (s *Supervisor) note(err error) { s.last.Store(&Reload{At: time.Now(), OK: err == nil}) }

// Reload has the configuration read anew and returns once it is in force, or why it is not.
func (s *Supervisor) Reload(ctx context.Context) error {
	r := reload{make(chan error, 1)}
	return ask(ctx, s.reloads, r, r.done)
}

// Run runs d, which goes by c, and what comes after it, until ctx ends or something of lockstep's own fails.
func (s *Supervisor) Run(ctx context.Context, c *config.Config, d *Daemon) error {
	var asked reload // which is answered once what it led to is in force
	var outcome error
	for {
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- d.Run(running)
			stop() // nobody is there who makes changes
		}()
		s.Serve(d)
		s.settle(asked, outcome)
		next, r, err := s.await(running, &c, d, ended)
		stop()
		if next == nil {
			return err
		}
		asked = r
		if err := <-ended; err != nil || ctx.Err() != nil {
			asked.done <- errors.Join(err, ctx.Err())
			return err
		}
		if c, d, outcome, err = s.replace(ctx, c, next); err != nil {
			asked.done <- err
			return err
		}
	}
}

// replace starts a Daemon by the next configuration or, if it cannot, by the one before; then refused says why.
func (s *Supervisor) replace(ctx context.Context, before, next *config.Config) (c *config.Config, d *Daemon, refused, err error) {
	o := s.Options
	o.Strict = false // what cannot be watched any more is no reason to watch less than before
	if d, refused = Start(ctx, next, o); refused == nil {
		return next, d, nil, nil
	}
	if d, err = Start(ctx, before, o); err != nil {
		return nil, nil, nil, errors.Join(refused, err)
	}
	return before, d, refused, nil
}

// await makes changes of the configuration c until there is one for which d must make way, which it returns, or d ends by itself.
func (s *Supervisor) await(ctx context.Context, c **config.Config, d *Daemon, ended <-chan error) (*config.Config, reload, error) {
	for {
		select {
		case err := <-ended:
			return nil, reload{}, err
		case r := <-s.reloads:
			next, err := s.Load()
			if err == nil {
				err = replaces(*c, next)
			}
			if err == nil && !d.Changes(next) {
				return next, r, nil
			}
			if err == nil {
				err = d.Change(ctx, next)
			}
			if err == nil {
				*c = next
				s.Serve(d)
			}
			s.settle(r, err)
		}
	}
}

// replaces refuses changes that take a new process.
func replaces(old, next *config.Config) error {
	for _, v := range []struct{ key, old, next string }{{"data_dir", old.DataDir, next.DataDir}, {"listen", old.Listen, next.Listen}} {
		if v.old != v.next {
			return fmt.Errorf("%s was changed from %s to %s: restart lockstep for that, or change it back", v.key, v.old, v.next)
		}
	}
	return nil
}

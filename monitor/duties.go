package monitor

import (
	"context"
	"time"

	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/fault"
	"github.com/lockstep-cdc/lockstep/scan"
)

func (g *Group) hearPanics(f *feed, duties []*duty.Duty) []*duty.Duty {
	for _, d := range duties {
		d.Panicked = func(e *fault.Error) { g.saw(e, "member", f.Name, "duty", d.Name) }
	}
	return duties
}

// dutiesOf lists what is done again and again for a member, each by a goroutine of its own, but for what its canary has done. Beside
// them there is Run.
func (g *Group) dutiesOf(f *feed) []*duty.Duty {
	list := []*duty.Duty{
		{
			Name: "catalog", Every: catalogEvery, Asked: f.redefine, Pause: catalogPause,
			Do:     func(ctx context.Context) (time.Duration, error) { return g.readCatalog(ctx, f) },
			Failed: g.undefined(f),
		},
		{
			Name: "progress", First: progressEvery, Every: progressEvery,
			Do: plain(g.askProgress(f)), Failed: g.whispers(f, "progress is not known"),
		},
		{
			Name: "scan", First: scanEvery, Every: scanEvery, Retry: scanRetry,
			Do: of(f, g.scan), Failed: g.warns(f, "reading tables was interrupted; lockstep tries again"),
		},
		{
			Name: "scrub", Every: scrubLook,
			Do: g.scrubber(f, scan.Rolling).step, Failed: g.warns(f, "rows could not be read again; lockstep tries again"),
		},
		{
			Name: "scrub_request", Every: scrubLook,
			Do: g.scrubber(f, scan.Urgent).step, Failed: g.warns(f, "rows could not be read again; lockstep tries again"),
		},
	}
	if f.ScanOnly {
		list = append(list, &duty.Duty{
			Name: "greet", Every: catalogEvery, Retry: firstRetry, Longest: lastRetry,
			Do: of(f, g.greet), Failed: g.troubles(f, "member cannot be reached; lockstep tries again"),
		}, &duty.Duty{
			Name: "recheck", First: recheckEvery, Every: recheckEvery,
			Do: of(f, g.recheck), Failed: g.whispers(f, "rows that differ could not be read again"),
		})
	} else {
		list = append(list, &duty.Duty{
			Name: "follow", Every: firstRetry, Retry: firstRetry, Longest: lastRetry,
			Do:     func(ctx context.Context) (time.Duration, error) { return g.follow(ctx, f) },
			Went:   func() time.Duration { return f.went },
			Failed: g.troubles(f, "change stream was interrupted; lockstep reconnects"),
		}, &duty.Duty{
			Name: "resolve_suspects", First: suspectsEvery, Every: suspectsEvery, Retry: suspectsRetry, Longest: lastSuspectsRetry,
			Do: of(f, g.resolveSuspects), Failed: g.warns(f, "rows under suspicion could not be read again yet; lockstep tries again"),
		}, &duty.Duty{
			Name: "drill", First: drillEvery, Every: drillEvery, Retry: troubleWait,
			Do:     func(ctx context.Context) (time.Duration, error) { return g.drill(ctx, f) },
			Failed: g.warns(f, "rows that differ could not be read; lockstep tries again"),
		})
	}
	return g.hearPanics(f, list)
}

// plain is a duty's function that does not say when the next time is.
func plain(do func(context.Context) error) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) { return 0, do(ctx) }
}

// of is the same for something that is done for a member.
func of(f *feed, do func(context.Context, *feed) error) func(context.Context) (time.Duration, error) {
	return plain(func(ctx context.Context) error { return do(ctx, f) })
}

// warns has a failure logged for operators, whispers for us.
func (g *Group) warns(f *feed, message string) func(error, time.Duration) {
	return func(err error, _ time.Duration) { g.log.Warn(message, "member", f.Name, "err", err.Error()) }
}

func (g *Group) whispers(f *feed, message string) func(error, time.Duration) {
	return func(err error, _ time.Duration) { g.log.Debug(message, "member", f.Name, "err", err.Error()) }
}

// runsOf is what became of duties.
func runsOf(duties []*duty.Duty) []duty.Runs {
	runs := make([]duty.Runs, len(duties))
	for i, d := range duties {
		runs[i] = d.Runs()
	}
	return runs
}

package monitor_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

// questions notes what a source is asked for beside who it is.
type questions struct {
	cdc.Source
	mu    sync.Mutex
	asked map[string]int // guarded by mu
}

func (q *questions) note(what string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked[what]++
}

func (q *questions) Tables(ctx context.Context, match func(string) bool) ([]cdc.Table, error) {
	q.note("tables")
	return q.Source.Tables(ctx, match)
}

func (q *questions) Progress(ctx context.Context) (cdc.Progress, error) {
	q.note("progress")
	return q.Source.Progress(ctx)
}

func (q *questions) Prepare(ctx context.Context, from cdc.Position) (cdc.Position, error) {
	q.note("prepare")
	return q.Source.Prepare(ctx, from)
}

func (q *questions) Read(ctx context.Context, t cdc.Table, e cdc.Epoch, p cdc.Part, row func(digest.Key, *digest.Row) error) (cdc.View, error) {
	q.note("read")
	return q.Source.Read(ctx, t, e, p, row)
}

func (q *questions) Snapshot(ctx context.Context) (cdc.Snapshot, error) {
	q.note("snapshot")
	return q.Source.Snapshot(ctx)
}

func (q *questions) Execute(ctx context.Context, table, statement string) error {
	q.note("execute")
	return q.Source.Execute(ctx, table, statement)
}

// A member comes to be read by an address behind which there is the reference. It was asked for its definitions and its rows, which
// were taken for the member's, and a canary was written there, before anybody knew. Nothing is asked of it but who it is; a difference
// that is open stays open, and the others go on.
func TestServerThatIsNotAdmittedIsAskedForNothing(t *testing.T) {
	for _, engine := range cdctest.Engines {
		for _, scanOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, only scanned: %v", engine, scanOnly), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					w := watch(t, engine, func(string, string) error { return nil }, func(o *monitor.Options) {
						o.Scrub.Every = func(string) time.Duration { return 20 * time.Second }
					})
					defer w.end()
					for _, table := range watchedTables {
						w.write(table, 1, 1)
					}
					rest(10 * time.Second)
					w.b.Write(cdctest.Put(watchedTables[0], 1, cdctest.Row{"v": 7}))
					rest(10 * time.Second)
					w.is(t, "b", watchedTables[0], status.Diverged, "")

					wrong := w.a.Source(digest.NewHasher(w.secret))
					wrong.ScanOnly = scanOnly
					reference, err := wrong.Server(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					q := &questions{Source: wrong, asked: make(map[string]int)}
					w.change(t, func(o *monitor.Options) {
						o.Members[1] = monitor.Member{Name: "b", Source: q, ScanOnly: scanOnly}
						o.Admit = func(_ context.Context, member monitor.Member, s cdc.Server) error {
							if member.Name == "b" && s.SystemID == reference.SystemID {
								return &cdc.SetupError{Problem: "members a and b are the same server"}
							}
							return nil
						}
						o.Canary = monitor.CanaryPlan{Table: watchedTables[2], Every: time.Second, Into: func(string) bool { return true }}
					})
					rest(time.Minute)
					if len(q.asked) > 0 {
						t.Errorf("a server that is not the member's was asked for %v", q.asked)
					}
					w.is(t, "b", watchedTables[1], status.Unverified, "")
					w.is(t, "a", watchedTables[1], status.InStep, "")
					if n := w.log.count(`change stream opened" group=shop member=a`); n != 1 {
						t.Errorf("the reference's stream was opened %d times", n)
					}
					if scanOnly {
						return
					}
					w.change(t, func(o *monitor.Options) {
						o.Members[1].Source, o.Admit, o.Canary = w.source(), nil, monitor.CanaryPlan{}
					})
					rest(20 * time.Second)
					w.is(t, "b", watchedTables[0], status.Diverged, "")
					w.is(t, "b", watchedTables[1], status.InStep, "")
					if n := w.log.count("has a hole"); n > 0 {
						t.Errorf("there were %d holes", n)
					}
				})
			})
		}
	}
}

// Why a member is refused may be another reason later: the one from before was said for as long as it was refused.
func TestReasonForWhichAMemberIsRefusedIsTheLatest(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var reason atomic.Value
		reason.Store("whether it is another server is not known")
		w := watch(t, cdctest.Postgres, func(string, string) error { return nil }, func(o *monitor.Options) {
			o.Admit = func(_ context.Context, member monitor.Member, _ cdc.Server) error {
				if member.Name == "b" {
					return &cdc.SetupError{Problem: reason.Load().(string)}
				}
				return nil
			}
		})
		defer w.end()
		for _, now := range []string{"whether it is another server is not known", "it is the same server"} {
			reason.Store(now)
			rest(time.Minute)
			if got := w.Status().Members[1].Trouble; !strings.Contains(got, now) {
				t.Errorf("the trouble is %q, want %q", got, now)
			}
			if n := w.log.count(now); n != 1 {
				t.Errorf("%q was logged %d times", now, n)
			}
		}
	})
}

package monitor_test

import (
	"context"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
	"github.com/lockstep-cdc/lockstep/monitor"
	"github.com/lockstep-cdc/lockstep/status"
)

// slowly is a source whose slot takes a while, and then its stream.
type slowly struct{ cdc.Source }

func (s slowly) Prepare(ctx context.Context, from cdc.Position) (cdc.Position, error) {
	<-time.After(3 * time.Second)
	return s.Source.Prepare(ctx, from)
}

func (s slowly) Stream(ctx context.Context, from cdc.Position, yield func(cdc.Event) error) error {
	<-time.After(time.Second)
	return s.Source.Stream(ctx, from, yield)
}

// Tables of the reference were read at the first start before its stream had a beginning, and then once more.
func TestTablesAreReadOnceAtTheFirstStart(t *testing.T) {
	for _, engine := range cdctest.Engines {
		t.Run(string(engine), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := watch(t, engine, func(string, string) error { return nil }, func(o *monitor.Options) {
					for i := range o.Members {
						o.Members[i].Source = slowly{o.Members[i].Source}
					}
				})
				defer w.end()
				for _, table := range watchedTables {
					w.write(table, 1, 1)
				}
				rest(30 * time.Second)
				for _, member := range []string{"a", "b"} {
					w.is(t, member, watchedTables[0], status.InStep, "")
					if n := w.log.count(`reading table" group=shop member=` + member); n != len(watchedTables) {
						t.Errorf("tables of %s were read %d times, want %d", member, n, len(watchedTables))
					}
				}
				if n := w.log.count("interrupted"); n > 0 { // its stream had not begun yet
					t.Errorf("reading tables is said to be interrupted %d times", n)
				}
			})
		})
	}
}

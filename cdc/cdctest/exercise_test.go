package cdctest

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// The fake is held to what the engines are held to, in cdc/postgres and cdc/mysql.
func TestExercise(t *testing.T) {
	for _, engine := range Engines {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			Exercise(t, func(t *testing.T) Subject { return inMemory(t, engine) })
		})
	}
}

// inMemory is a group of two servers of a cluster.
func inMemory(t *testing.T, engine Engine) Subject {
	c := NewCluster(engine, 1)
	author, follower := c.Server("author"), c.Server("follower")
	for _, s := range []*Server{author, follower} {
		for _, name := range []string{"a", "b", "elsewhere"} {
			s.CreateTable(name, Int("v"), Wide("note"))
		}
	}
	lane := cdc.GTIDLane
	if engine == Postgres {
		lane = follower.Subscribe(author, "sub", "a", "b", "elsewhere")
	} else {
		follower.Follow(author)
	}
	random := rand.New(rand.NewPCG(1, 1))
	var mu sync.Mutex // guards random
	replay := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return follower.Replay(lane, Rightly, random)
	}
	var replica sync.WaitGroup
	replica.Go(func() {
		for t.Context().Err() == nil {
			if !replay() {
				time.Sleep(time.Millisecond)
			}
		}
	})
	t.Cleanup(replica.Wait)
	return Subject{
		Engine: engine, Author: fakeDriver{author}, Follower: fakeDriver{follower},
		Replicate: func(_ context.Context, on bool) error { follower.Enable(lane, on); return nil },
		CaughtUp: func(context.Context) error {
			for replay() {
			}
			return nil
		},
	}
}

type fakeDriver struct{ *Server }

func (d fakeDriver) Name(table string) string                  { return table }
func (d fakeDriver) Open(h *digest.Hasher) (cdc.Source, error) { return d.Server.Source(h), nil }
func (d fakeDriver) Cut(context.Context) error                 { d.Server.Cut(); return nil }
func (d fakeDriver) GiveUp(context.Context) error              { d.Purge(); return nil }

// Noise is what PostgreSQL's log has of other databases, and those of MySQL and MariaDB of tables that nobody watches.
func (d fakeDriver) Noise(context.Context) error {
	d.Server.Noise()
	if d.cluster.gtids() {
		d.Server.Write(Put("elsewhere", 1000*d.number+len(d.Keys("elsewhere")), Row{"v": 1}))
	}
	return nil
}

// Write takes a time, as a disk does.
func (d fakeDriver) Write(_ context.Context, changes ...Change) error {
	time.Sleep(time.Millisecond)
	d.Server.Write(changes...)
	return nil
}

func (d fakeDriver) AddColumn(_ context.Context, table, column string) error {
	d.Server.AddColumn(table, Int(column))
	return nil
}

func (d fakeDriver) DropColumn(_ context.Context, table, column string) error {
	d.Server.DropColumn(table, column)
	return nil
}

package scan

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
)

func calmly(context.Context) (Load, error) { return Load{}, nil }

// reads lets a scan read chunks of a server that gives so many rows a second until it has them all or the time is over,
// and returns how many it had and how long it took.
func reads(t *testing.T, p *Pacer, u Urgency, rows int, server float64, most time.Duration) (int, time.Duration) {
	t.Helper()
	began, got := time.Now(), 0
	for got < rows && time.Since(began) < most {
		if err := p.Await(t.Context(), u, calmly); err != nil {
			t.Fatal(err)
		}
		n := min(p.Most(u), 10_000, rows-got)
		took := seconds(float64(n) / server)
		<-time.After(took)
		p.Read(u, n, took)
		got += n
	}
	return got, time.Since(began)
}

func near(got, want time.Duration) bool {
	return math.Abs(got.Seconds()-want.Seconds()) <= 0.02*want.Seconds()
}

func TestNoMoreRowsThanTheRateAllows(t *testing.T) {
	tests := []struct {
		name     string
		settings Settings
		goals    []Goal
		rows     int
		server   float64 // rows a second
		want     time.Duration
	}{
		{"without a goal as fast as allowed", Settings{MaxRowsPerSecond: 20_000}, nil, 1_000_000, 1e6, 50 * time.Second},
		{"the default", Settings{}, nil, 1_000_000, 1e6, 20 * time.Second},
		{"a slow server is not driven", Settings{MaxRowsPerSecond: 20_000}, nil, 100_000, 5000, 20 * time.Second},
		{"a goal far off", Settings{}, []Goal{{Rows: 900_000, Every: 1000 * time.Second}}, 100_000, 1e6, 100 * time.Second},
		{"two goals", Settings{}, []Goal{{Rows: 450_000, Every: 1000 * time.Second}, {Rows: 900_000, Every: 2000 * time.Second}}, 100_000, 1e6, 100 * time.Second},
		{"a goal that cannot be reached", Settings{}, []Goal{{Rows: 1e12, Every: time.Hour}}, 1_000_000, 1e6, 20 * time.Second},
		{"a goal that has passed", Settings{}, []Goal{{Rows: 1000, Every: time.Nanosecond}}, 1_000_000, 1e6, 20 * time.Second},
		{"rows that nobody counted", Settings{}, []Goal{{Rows: -1, Every: 24 * time.Hour}}, 1_000_000, 1e6, 20 * time.Second},
		{"a small table is not drawn out", Settings{}, []Goal{{Rows: 10, Every: 24 * time.Hour}}, 10_000, 1e6, 100 * time.Second},
		{"nothing left", Settings{}, []Goal{{Rows: 0, Every: time.Nanosecond}}, 10_000, 1e6, 100 * time.Second},
		{"the floor is below the highest rate", Settings{MaxRowsPerSecond: 50}, []Goal{{Rows: 10, Every: time.Hour}}, 5000, 1e6, 100 * time.Second},
	}
	for _, test := range tests {
		bubble.Test(t, func(t *testing.T) {
			p := NewPacer(test.settings)
			for i := range test.goals {
				test.goals[i].Began = time.Now()
			}
			p.Aim(test.goals...)
			_, took := reads(t, p, Rolling, test.rows, test.server, time.Hour)
			// Behind the last chunk there is no wait, so that the whole may take less by what one chunk takes.
			if took > test.want+test.want/20 || took < test.want-test.want/5 {
				t.Errorf("%s: took %v, want %v", test.name, took, test.want)
			}
		})
	}
}

// TestRollingScanEndsInTime scans a table within a day, once at all hours and once in windows, with two hours in which the
// server could not be read, while the goal is told what is left.
func TestRollingScanEndsInTime(t *testing.T) {
	for name, ws := range map[string]Windows{"always": nil, "at night": windows(t, "22:00-06:00")} {
		bubble.Test(t, func(t *testing.T) {
			const rows, every = 20_000_000, 24 * time.Hour
			p := NewPacer(Settings{Windows: ws})
			began, left, rest := time.Now(), rows, true
			highest := 0.0
			for left > 0 {
				p.Aim(Goal{Rows: int64(left), Began: began, Every: every})
				if err := p.Await(t.Context(), Rolling, calmly); err != nil {
					t.Fatal(err)
				}
				if !ws.Open(time.Now()) {
					t.Fatalf("%s: reads at %v", name, time.Now())
				}
				if rest && left < rows/2 {
					<-time.After(2 * time.Hour)
					rest = false
					continue
				}
				n := min(p.Most(Rolling), left)
				<-time.After(100 * time.Millisecond)
				p.Read(Rolling, n, 100*time.Millisecond)
				left -= n
				highest = max(highest, p.Status().Rate)
			}
			took := time.Since(began)
			if took > every || ws == nil && took < every*8/10 {
				t.Errorf("%s: took %v of %v", name, took, every)
			}
			if highest >= DefaultMaxRowsPerSecond {
				t.Errorf("%s: had to go as fast as it may", name)
			}
		})
	}
}

func TestUrgentScanKeepsToTheHighestRateAlone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := NewPacer(Settings{Windows: Windows{{}}, MaxRowsPerSecond: 10_000})
		p.Aim(Goal{Rows: 1000, Began: time.Now(), Every: time.Hour})
		if rows, took := reads(t, p, Urgent, 1_000_000, 1e6, time.Hour); rows != 1_000_000 || took > 101*time.Second || took < 90*time.Second {
			t.Errorf("%d rows in %v", rows, took)
		}
		load := func(context.Context) (Load, error) {
			return Load{Server: cdc.Pressure{Held: 2, ManyHeld: 1}}, nil
		}
		began := time.Now()
		if err := p.Await(t.Context(), Urgent, load); err != nil || time.Since(began) > 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestWholeTableIsPaidForAtTheHighestRate: a table that cannot be read in parts comes in one chunk, whatever its size.
func TestWholeTableIsPaidForAtTheHighestRate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := NewPacer(Settings{MaxRowsPerSecond: 10_000})
		p.Aim(Goal{Rows: 1_000_000, Began: time.Now(), Every: 24 * time.Hour})
		for _, u := range []Urgency{Rolling, Urgent} {
			p.Read(Rolling, 1_000_000, 0)
			began := time.Now()
			if err := p.Await(t.Context(), u, calmly); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); !near(waited, 100*time.Second) {
				t.Errorf("waited %v", waited)
			}
		}
	})
}

func TestPauseTellsWhySinceWhenAndHowLong(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := NewPacer(Settings{MaxReplicaLag: 5 * time.Second})
		began := time.Now()
		var looks []time.Duration
		look := func(context.Context) (Load, error) {
			at := time.Since(began)
			looks = append(looks, at.Round(time.Second))
			switch {
			case at < 10*time.Second:
				return Load{ReplicaLag: 14 * time.Second, Laggard: "us-1"}, nil
			case at < 200*time.Second:
				return Load{StoreBehind: true}, nil
			}
			return Load{}, nil
		}
		done := make(chan error)
		go func() { done <- p.Await(t.Context(), Rolling, look) }()
		<-time.After(4 * time.Second)
		synctest.Wait()
		s := p.Status()
		want := Pause{For: 4 * time.Second, Reason: ReplicaLag, Detail: "replica us-1 is 14s behind, more than 5s"}
		if s.Pause != want || !s.Since.Equal(began) || !s.Until.Equal(began.Add(7*time.Second)) {
			t.Errorf("%+v", s)
		}
		<-time.After(100 * time.Second)
		synctest.Wait()
		if s := p.Status(); s.Pause.Reason != StoreBehind || s.Pause.Detail == "" || !s.Since.Equal(began) {
			t.Errorf("%+v", s)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		// 1, 2, 4, 8, 16 and then 32 seconds apart.
		for i, want := range []time.Duration{0, 1, 3, 7, 15, 31, 63, 95, 127, 159, 191, 223} {
			if i >= len(looks) || looks[i] != want*time.Second {
				t.Fatalf("looked at %v", looks)
			}
		}
		s = p.Status()
		if s.Pause != (Pause{}) || !s.Since.IsZero() || s.Waited[ReplicaLag] != 15*time.Second || s.Waited[StoreBehind] != 208*time.Second {
			t.Errorf("%+v", s)
		}
	})
}

func TestPauseForAnotherTimeBeginsSmallAgain(t *testing.T) {
	b := brake{maxLag: time.Second}
	now := time.Unix(1e9, 0)
	behind := Load{StoreBehind: true}
	for range 10 {
		b.judge(now, Rolling, behind)
	}
	if p := b.judge(now, Rolling, Load{}); p != (Pause{}) {
		t.Errorf("%+v", p)
	}
	if p := b.judge(now, Rolling, behind); p.For != firstPause {
		t.Errorf("%+v", p)
	}
}

func TestClosedWindowIsAPause(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		began := time.Now() // on the full minute
		from := (began.Hour()*60 + began.Minute() + 3*60) % day
		p := NewPacer(Settings{Windows: Windows{{Days: everyDay, From: from, To: from%day + 1}}})
		if err := p.Await(t.Context(), Rolling, calmly); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != 3*time.Hour || p.Status().Waited[OutsideWindow] != waited {
			t.Errorf("waited %v, %+v", waited, p.Status())
		}
	})
}

func TestAwaitEndsWithItsContextAndWithWhatLookSays(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := NewPacer(Settings{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := p.Await(ctx, Rolling, func(context.Context) (Load, error) { return Load{StoreBehind: true}, nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if s := p.Status(); s.Pause != (Pause{}) || s.Waited[StoreBehind] != 10*time.Second {
			t.Errorf("%+v", s)
		}
		if err := p.Await(ctx, Rolling, calmly); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a context that is over: %v", err)
		}
		silent := errors.New("no answer")
		err = p.Await(t.Context(), Rolling, func(context.Context) (Load, error) { return Load{}, silent })
		if !errors.Is(err, silent) {
			t.Error(err)
		}
	})
}

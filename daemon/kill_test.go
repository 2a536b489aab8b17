package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// lockstep, in a process of its own, is killed with SIGKILL at random moments under load, with differences made in between. Afterwards
// every difference is there once, and every range digest is what the servers' rows give.
func TestKilledAtAnyMomentNothingIsWrongLostOrDoubled(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: load.Schema, LagBudget: 500 * time.Millisecond, Extra: audited})
	killed(t, c, c.YAML, c.DSN("eu-1"), "public.accounts", 3)
}

func TestSoakOfKills(t *testing.T) {
	needSoak(t)
	c := startCluster(t, cluster.Options{Schema: load.Schema, LagBudget: 500 * time.Millisecond, Extra: audited})
	killed(t, c, c.YAML, c.DSN("eu-1"), "public.accounts", 50)
}

func TestSoakOfKillsOnMySQL(t *testing.T) {
	needSoak(t)
	o := cluster.Options{Schema: load.MySQLSchema, LagBudget: 500 * time.Millisecond, Extra: audited}
	onMariaDB(t, o, func(t *testing.T, w *watch, c *cluster.MySQLCluster) {
		killed(t, c, c.YAML, c.DSN("eu-1"), "app.accounts", 50)
	})
}

func killed(t *testing.T, c servers, yaml, dsn, table string, kills int) {
	address := freeAddress(t)
	yaml = strings.Replace(yaml, "127.0.0.1:0", address, 1)
	ctx := t.Context()
	if err := load.FillShare(ctx, dsn, 10); err != nil {
		t.Fatal(err)
	}
	writing := load.Start(ctx, dsn, load.Options{Clients: 2, Pause: 30 * time.Millisecond, Large: 200, Seed: 1})
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, file)
	waitTrusted(t, address)
	var want []string
	for n := range kills {
		id := load.ReservedFrom + 10*n
		member := []string{"us-1", "us-2"}[n%2]
		if err := c.Exec(ctx, member, fmt.Sprintf("UPDATE accounts SET owner = 'wrong' WHERE id = %d", id)); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf(`%s %s changed errant_transaction {"id":%d}..{"id":%d}`, member, table, id, id))
		pause := time.Duration(rand.IntN(900)) * time.Millisecond
		t.Logf("kill %d after %v", n, pause)
		time.Sleep(pause) // the moment is to be a random one
		p.kill()
		p = startProgram(t, file)
	}
	slices.Sort(want)
	waitDivergences(t, address, want)
	if err := writing.Stop(); err != nil {
		t.Fatal(err)
	}
	p.kill()
	w := startWatch(t, c)
	w.finds(want...)
	if all := w.divergences(); len(all) != len(want) {
		t.Errorf("%d divergences are on record, %d were injected: %v", len(all), len(want), all)
	}
	w.replayed()
	w.checkDigests()
	w.stop()
	// One that is killed at once has recorded no start.
	if r, _ := verifyLog(t, c); r.Counts[evidence.DivergenceOpen] != uint(len(want)) || r.Counts[evidence.Start] > uint(kills)+2 || r.Counts[evidence.Stop] != 1 {
		t.Errorf("recorded was %v after %d divergences and %d kills", r.Counts, len(want), kills)
	}
}

// checkDigests reads all rows of all members again and holds the range digests against them. The servers must be quiet.
func (w *watch) checkDigests() {
	w.t.Helper()
	ctx := w.t.Context()
	w.until("every member to have shown all that it has", func() bool {
		quiet := time.Now()
		for _, m := range w.daemon.Groups()[0].Status().Members {
			if m.InFlight > 0 || quiet.Sub(m.ProvenAt.Time) > time.Second {
				return false
			}
		}
		return true
	})
	all, err := w.daemon.Digests(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	for at, d := range all {
		if d.Ranges == nil {
			w.t.Errorf("%v has no range digests", at)
			continue
		}
		want := make([]merkle.Sum, d.Ranges.Len())
		snapshot, err := d.Source.Snapshot(ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		err = snapshot.Rows(ctx, d.Table, d.Epoch, func(k digest.Key, r *digest.Row) error {
			i := d.Ranges.Find(k)
			want[i] = want[i].Add(merkle.Of(r.Digest))
			return nil
		})
		snapshot.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range want {
			if want[i] != d.Sums[i] {
				w.t.Errorf("%v range %d: digest %v, its rows give %v", at, i, d.Sums[i], want[i])
			}
		}
	}
}

// freeAddress returns an address to listen on, again and again, below the ports that systems give to connections: one of
// those could be taken while the program is down.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no port is free between 20000 and 32000")
	return ""
}

// programOf is the variable of the environment that makes the program of these tests lockstep by the configuration that it
// names: another one of itself costs nothing to build.
const programOf = "LOCKSTEP_TEST_PROGRAM"

// beProgram is lockstep in a process of its own, until it is killed.
func beProgram(file string) error {
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	front, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	d, err := daemon.Start(context.Background(), c, daemon.Options{Version: "test", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(context.Background())
	work.Go(func() error { return http.Serve(front, d.API()) })
	work.Go(func() error { return d.Run(ctx) })
	return work.Wait()
}

// program is a running lockstep.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bytes.Buffer
}

func startProgram(t *testing.T, file string) *program {
	t.Helper()
	p := &program{t: t, out: new(bytes.Buffer)}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), programOf+"="+file)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.kill()
		}
		if t.Failed() {
			t.Logf("output:\n%s", lastLines(p.out.String(), 15))
		}
	})
	return p
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// kill ends the program with SIGKILL, unless it has ended by itself: then that is the failure.
func (p *program) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Errorf("the program has ended by itself: %v", err)
	}
	err := p.cmd.Wait()
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		p.t.Fatalf("the program has ended by itself: %v\n%s", err, p.out)
	}
}

// waitTrusted waits until both subscribers are trusted.
func waitTrusted(t *testing.T, address string) {
	t.Helper()
	waitHTTP(t, "the subscribers to be trusted", func() bool {
		for _, m := range []string{"us-1", "us-2"} {
			resp, err := http.Get("http://" + address + "/api/v1/trust/shop/" + m)
			if err != nil {
				return false
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return false
			}
		}
		return true
	})
}

func waitDivergences(t *testing.T, address string, want []string) {
	t.Helper()
	waitHTTP(t, fmt.Sprintf("%d divergences", len(want)), func() bool {
		resp, err := http.Get("http://" + address + "/api/v1/divergences")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		var list []finding.Divergence
		if err != nil || json.Unmarshal(body, &list) != nil {
			return false
		}
		var got []string
		for _, d := range list {
			got = append(got, summary(d))
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

func waitHTTP(t *testing.T, what string, met func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // against a hang only: on a busy machine, with the race detector, minutes are possible
	defer cancel()
	if err := dbtest.WaitFor(ctx, what, func(context.Context) (bool, error) { return met(), nil }); err != nil {
		t.Fatal(err)
	}
}

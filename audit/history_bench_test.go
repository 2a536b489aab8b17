package audit_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// The fleet of which a history is made, at the default cadence.
const (
	historyDays    = 90
	historyGroups  = 3
	historyMembers = 3
	historyTables  = 50
)

// BenchmarkHistory writes 90 days of a fleet by a simulated clock, and takes the time of a report of all of it and of its
// verification, and of the log's.
func BenchmarkHistory(b *testing.B) {
	bench := historyOf(b)
	for b.Loop() {
		began := time.Now()
		path := filepath.Join(b.TempDir(), "report.zip")
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		p := report.Period{From: bench.from, To: bench.from.Add(historyDays * 24 * time.Hour)}
		if _, err := audit.Export(b.Context(), bench.folder, p, "", f); err != nil {
			b.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		reported := time.Since(began)
		public, err := audit.PublicKey(bench.folder)
		if err != nil {
			b.Fatal(err)
		}
		began = time.Now()
		r, err := verify.Archive(b.Context(), path, verify.Options{Key: public})
		if err != nil || !r.OK() {
			b.Fatal(err, failures(r))
		}
		verified := time.Since(began)
		began = time.Now()
		if r, err = verify.Log(b.Context(), filepath.Join(bench.folder, "log"), verify.Options{Key: public}); err != nil || !r.OK() {
			b.Fatal(err, failures(r))
		}
		b.ReportMetric(reported.Seconds(), "s/report")
		b.ReportMetric(verified.Seconds(), "s/verify-report")
		b.ReportMetric(time.Since(began).Seconds(), "s/verify-log")
		b.ReportMetric(float64(info.Size())/1e6, "MB/report")
		b.ReportMetric(float64(bench.size)/1e6, "MB/log")
		b.ReportMetric(float64(bench.size)/1e9*365/historyDays, "GB/year")
		b.ReportMetric(float64(r.Size), "entries")
	}
}

type history struct {
	folder string
	from   time.Time
	size   int64 // bytes of the log
}

func historyOf(b *testing.B) history {
	d := newDesk(b)
	h := history{folder: d.folder(), from: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	start := evidence.StartData{Lockstep: "test"}
	for g := range historyGroups {
		start.Groups = append(start.Groups, evidence.GroupData{Name: fmt.Sprintf("group%d", g), Every: 3600})
	}
	d.record(evidence.Event{Type: evidence.Start, Time: h.from, Data: start})
	for hour := range historyDays * 24 {
		at := h.from.Add(time.Duration(hour)*time.Hour + time.Minute)
		var events []evidence.Event
		for g := range historyGroups {
			for m := range historyMembers {
				events = append(events, evidence.Event{Type: evidence.Coverage, Group: fmt.Sprintf("group%d", g), Time: at, Data: fleetCoverage(hour, m, at)})
			}
			if hour%50 == 7 {
				found := evidence.DivergenceData{
					ID: fmt.Sprintf("01J%d-%d", g, hour), Table: "public.orders_12", Member: "us-1", Kind: "changed", Cause: "apply", Keys: 1,
					Ranges: []evidence.RangeData{{First: "hmac-sha256:00", Last: "hmac-sha256:00", Changed: 1}}, FirstSeen: at, ConfirmedAt: at.Add(30 * time.Second),
				}
				events = append(events, evidence.Event{Type: evidence.DivergenceOpen, Group: fmt.Sprintf("group%d", g), Time: at, Data: found})
				resolved := at.Add(10 * time.Minute)
				found.ResolvedAt = &resolved
				events = append(events, evidence.Event{Type: evidence.DivergenceResolve, Group: fmt.Sprintf("group%d", g), Time: at, Data: found})
			}
		}
		d.record(events...)
	}
	d.record(evidence.Event{Type: evidence.Stop, Time: h.from.Add(historyDays*24*time.Hour - time.Minute), Data: struct{}{}})
	d.until("the log to have it all", func() bool { return d.log.Status().Size >= historyDays*24*historyGroups*historyMembers })
	d.close()
	// Files that are not full are replaced as the log grows, and swept away within minutes.
	err := filepath.WalkDir(filepath.Join(h.folder, "log"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.Contains(path, ".p/") {
			return err
		}
		info, err := e.Info()
		h.size += info.Size()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

func fleetCoverage(hour, member int, at time.Time) evidence.CoverageData {
	c := evidence.CoverageData{
		Member: fmt.Sprintf("us-%d", member), Role: "replica", Position: fmt.Sprintf("1A/%08X", hour*1000+member), Lag: 0.25, ProvenAt: &at, Every: 3600,
	}
	if member == 0 {
		c.Role = "reference"
	}
	for n := range historyTables {
		verified := at.Add(-time.Duration(n) * time.Minute)
		c.Tables = append(c.Tables, evidence.TableData{
			Table: fmt.Sprintf("public.orders_%d", n), Verdict: "in_step", Rows: int64(1_000_000 + hour), Ranges: map[string]int{"in_step": 1000},
			Root: fmt.Sprintf("%064x", hour*100+n), VerifiedAt: &verified,
		})
	}
	return c
}

package web

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/status"
)

// collector turns the state of the groups into metrics when they are scraped. Keys, positions and ids are never labels.
type collector struct {
	groups  []Group
	health  Health
	version string

	build, up, position, proven, lag, inFlight, changes                                          *prometheus.Desc
	keys, ranges, rows, open, expected, disk                                                     *prometheus.Desc
	waiting, told, refused, lastTold, reload, reloaded                                           *prometheus.Desc
	verified, fresh, silent, scanned, waited                                                     *prometheus.Desc
	duties, round                                                                                *prometheus.Desc
	canaries, canaryTook, canaryFound, canaryEvery                                               *prometheus.Desc
	copyUp, copyTime, stampUp, stampTime, witnessUp, witnessTime, logBytes, logExpected, logFree *prometheus.Desc
	logSize, logTime, logUp, logAside                                                            *prometheus.Desc
}

func newCollector(groups []Group, health Health, version string) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("lockstep_"+name, help, labels, nil)
	}
	return &collector{
		groups: groups, health: health, version: version,
		build:       desc("build_info", "Always 1; the labels say which lockstep this is.", "version", "goversion"),
		up:          desc("member_up", "1 if the member's change stream can be read, 0 if not.", "group", "member"),
		position:    desc("member_position_bytes", "Position in the member's own log up to which its stream was applied.", "group", "member"),
		proven:      desc("member_proven_timestamp_seconds", "When the member was last known to have shown everything that it has; 0 if never since the start.", "group", "member"),
		lag:         desc("member_lag_seconds", "For how long the oldest transaction that the member has not replayed has been known; 0 if it has replayed all.", "group", "member"),
		inFlight:    desc("member_in_flight_rows", "Row changes of the reference that the member has not replayed.", "group", "member"),
		changes:     desc("member_row_changes_total", "Row changes of the member's stream that were applied.", "group", "member"),
		keys:        desc("divergent_keys", "Keys whose row differs from what it must be, also ones younger than the lag budget.", "group", "member", "table"),
		ranges:      desc("ranges", "Ranges of keys by state. Only in_step says that the rows are the same.", "group", "member", "table", "state"),
		rows:        desc("rows", "Rows of the table as lockstep keeps them.", "group", "member", "table"),
		open:        desc("divergences_open", "Open divergences, but for those that expected_writes tells of.", "group", "member", "kind"),
		expected:    desc("divergences_expected", "Open divergences that expected_writes tells of.", "group", "member"),
		verified:    desc("scrub_oldest_verification_timestamp_seconds", "When of all rows of the table those were read from the server that were longest ago; 0 if not all were read.", "group", "member", "table"),
		fresh:       desc("scrub_fresh_ratio", "Share of the table's ranges, about, whose rows were read within scrub.every; 0 where nothing is scrubbed.", "group", "member", "table"),
		silent:      desc("silent_changes_total", "Rows that were found to have changed without a trace in the member's log.", "group", "member", "table"),
		scanned:     desc("scrub_rows_total", "Rows that were read again since the start.", "group", "member"),
		waited:      desc("scrub_waited_seconds_total", "How long scrubs of the member have waited, by reason.", "group", "member", "reason"),
		waiting:     desc("notifications_waiting", "Alerts that the receiver has still to be told of.", "receiver", "kind"),
		told:        desc("notifications_total", "Messages that the receiver has taken.", "receiver", "kind"),
		refused:     desc("notifications_failed_total", "Messages that the receiver has not taken; they are sent again.", "receiver", "kind"),
		lastTold:    desc("notifications_last_success_timestamp_seconds", "When the receiver last took a message; 0 if never since the start.", "receiver", "kind"),
		logSize:     desc("audit_log_entries", "Entries of the audit log."),
		logTime:     desc("audit_log_checkpoint_timestamp_seconds", "When the last checkpoint of the audit log was signed; 0 if none was yet."),
		logUp:       desc("audit_log_up", "1 if the audit log takes entries, 0 if they have to be kept for it."),
		logAside:    desc("audit_logs_put_aside", "Audit logs that could not be gone on with and were put aside; they are in data_dir until somebody takes them away."),
		stampUp:     desc("audit_log_timestamp_up", "1 if the time-stamping authority has answered when it was asked last, 0 if not."),
		stampTime:   desc("audit_log_last_timestamp_timestamp_seconds", "When a checkpoint of the audit log was last time-stamped; 0 if none was since the start."),
		witnessUp:   desc("audit_log_witness_up", "1 if all witnesses have cosigned the audit log when they were asked last, 0 if not."),
		witnessTime: desc("audit_log_last_cosigned_timestamp_seconds", "When a checkpoint of the audit log was last cosigned by all witnesses; 0 if none was since the start."),
		copyUp:      desc("audit_log_copy_up", "1 if the audit log could be copied when that was tried last, 0 if not."),
		copyTime:    desc("audit_log_last_copy_timestamp_seconds", "When the audit log was last copied; 0 if it was not since the start."),
		logBytes:    desc("audit_log_bytes", "Disk space of the audit log."),
		logExpected: desc("audit_log_expected_bytes", "Disk space that the audit log will take when it holds 13 months, at its rate until now; 0 while it is younger than a day."),
		logFree:     desc("audit_log_free_bytes", "Space left on the file system of the audit log."),
		round:       desc("group_round_timestamp_seconds", "When the group's loop last came round; all that is said of the group is of then.", "group"),
		duties:      desc("duty_runs_total", "How often something that is done again and again was done since the start, by how it ended; of the audit log, without group and member.", "group", "member", "duty", "outcome"),
		canaries:    desc("canaries_total", "Rows that lockstep wrote into the member to see how fast they are found, by what became of them.", "group", "member", "result"),
		canaryTook:  desc("canary_detection_seconds", "How long after its commit the last canary was raised, which includes the lag budget; 0 if none was yet.", "group", "member"),
		canaryFound: desc("canary_last_found_timestamp_seconds", "When the last canary was found; 0 if none was yet.", "group", "member"),
		canaryEvery: desc("canary_interval_seconds", "Time between two canaries, by the configuration.", "group", "member"),
		reload:      desc("config_last_reload_successful", "1 if the configuration could be used when it was last read, 0 if not."),
		reloaded:    desc("config_last_reload_timestamp_seconds", "When the configuration was last read."),
		disk:        desc("store_disk_bytes", "Disk space that the store takes."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.build, c.up, c.position, c.proven, c.lag, c.inFlight, c.changes, c.keys, c.ranges, c.rows, c.open, c.expected, c.round, c.duties, c.canaries, c.canaryTook, c.canaryFound, c.canaryEvery, c.logSize, c.logTime, c.logUp, c.logAside, c.logBytes, c.logExpected, c.logFree, c.stampUp, c.stampTime, c.copyUp, c.copyTime, c.witnessUp, c.witnessTime, c.waiting, c.told, c.refused, c.lastTold, c.reload, c.reloaded, c.disk, c.verified, c.fresh, c.silent, c.scanned, c.waited} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.build, 1, c.version, runtime.Version())
	gauge(c.disk, float64(c.health.DiskBytes()))
	at, ok := c.health.LastReload()
	gauge(c.reloaded, seconds(at))
	gauge(c.reload, map[bool]float64{true: 1}[ok])
	if s := c.health.Audit(); s != nil {
		gauge(c.logSize, float64(s.Size))
		gauge(c.logTime, seconds(s.CheckpointAt))
		gauge(c.logUp, map[bool]float64{true: 1}[s.Failed == ""])
		gauge(c.logAside, float64(s.Aside))
		gauge(c.logBytes, float64(s.Space.Bytes))
		gauge(c.logExpected, float64(s.Space.Expected))
		gauge(c.logFree, float64(s.Space.Free))
		outcome := func(o *audit.Outcome, up, at *prometheus.Desc) {
			if o != nil {
				gauge(up, map[bool]float64{true: 1}[o.Failed == ""])
				gauge(at, seconds(o.At))
			}
		}
		outcome(s.Stamps, c.stampUp, c.stampTime)
		outcome(s.Copies, c.copyUp, c.copyTime)
		outcome(s.Witnesses, c.witnessUp, c.witnessTime)
		c.runs(out, "", "", s.Duties)
	}
	for _, r := range c.health.Receivers() {
		gauge(c.waiting, float64(r.Waiting), r.Name, r.Kind)
		gauge(c.lastTold, seconds(r.LastSuccess), r.Name, r.Kind)
		out <- prometheus.MustNewConstMetric(c.told, prometheus.CounterValue, float64(r.Sent), r.Name, r.Kind)
		out <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(r.Failed), r.Name, r.Kind)
	}
	for _, g := range c.groups {
		now := g.Status()
		c.runs(out, now.Name, "", now.Duties)
		if now.Looping {
			gauge(c.round, seconds(now.At), now.Name)
		}
		for _, m := range now.Members {
			c.runs(out, now.Name, m.Name, m.Duties)
			c.member(gauge, now.Name, m)
			out <- prometheus.MustNewConstMetric(c.changes, prometheus.CounterValue, float64(m.Applied), now.Name, m.Name)
			out <- prometheus.MustNewConstMetric(c.scanned, prometheus.CounterValue, float64(m.Scanned), now.Name, m.Name)
			c.canary(out, gauge, now.Name, m)
			for reason, waited := range m.ScrubWaited {
				out <- prometheus.MustNewConstMetric(c.waited, prometheus.CounterValue, waited.Seconds(), now.Name, m.Name, reason)
			}
			for _, t := range m.Tables {
				out <- prometheus.MustNewConstMetric(c.silent, prometheus.CounterValue, float64(t.Silent), now.Name, m.Name, t.Table)
			}
		}
	}
}

func (c *collector) runs(out chan<- prometheus.Metric, group, member string, duties []duty.Runs) {
	for _, d := range duties {
		for outcome, n := range map[string]int64{"ok": d.OK, "failed": d.Failed} {
			out <- prometheus.MustNewConstMetric(c.duties, prometheus.CounterValue, float64(n), group, member, d.Name, outcome)
		}
	}
}

func (c *collector) canary(out chan<- prometheus.Metric, gauge gaugeFunc, group string, m status.Member) {
	s := m.Canary
	if s == nil {
		return
	}
	for result, n := range map[string]int64{"found": s.Found, "missed": s.Missed, "failed": s.Failed} {
		out <- prometheus.MustNewConstMetric(c.canaries, prometheus.CounterValue, float64(n), group, m.Name, result)
	}
	gauge(c.canaryTook, s.Last.Seconds(), group, m.Name)
	gauge(c.canaryFound, seconds(s.LastFound), group, m.Name)
	gauge(c.canaryEvery, s.Every.Seconds(), group, m.Name)
}

// kinds are all kinds of divergence, for series that begin at zero.
var kinds = []finding.Kind{finding.Stale, finding.Changed, finding.Missing, finding.Extra}

type gaugeFunc func(d *prometheus.Desc, v float64, labels ...string)

func (c *collector) member(gauge gaugeFunc, group string, m status.Member) {
	up := 1.0
	if m.Trouble != "" {
		up = 0
	}
	gauge(c.up, up, group, m.Name)
	gauge(c.position, float64(m.Exact.LSN), group, m.Name)
	gauge(c.proven, seconds(m.ProvenAt.Time), group, m.Name)
	gauge(c.lag, m.Behind.Seconds(), group, m.Name)
	gauge(c.inFlight, float64(m.InFlight), group, m.Name)
	for _, kind := range kinds {
		gauge(c.open, float64(m.Open[kind]), group, m.Name, string(kind))
	}
	gauge(c.expected, float64(m.Expected), group, m.Name)
	for _, t := range m.Tables {
		gauge(c.keys, float64(t.DivergentKeys), group, m.Name, t.Table)
		gauge(c.verified, seconds(t.VerifiedAt.Time), group, m.Name, t.Table)
		gauge(c.fresh, t.Fresh, group, m.Name, t.Table)
		gauge(c.rows, float64(t.Rows), group, m.Name, t.Table)
		for _, state := range status.Verdicts {
			gauge(c.ranges, float64(t.Ranges[state]), group, m.Name, t.Table, string(state))
		}
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

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

	build, up, trusted, tableTrusted, position, proven, lag, inFlight, changes                   *prometheus.Desc
	keys, ranges, rows, open, oldest, expected, errant, disk                                     *prometheus.Desc
	waiting, told, refused, lastTold, reload, reloaded                                           *prometheus.Desc
	verified, fresh, silent, scanned, waited                                                     *prometheus.Desc
	duties, panics, round, retained, retainedMost                                                *prometheus.Desc
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
		build:        desc("build_info", "Always 1; the labels say which lockstep this is.", "version", "goversion"),
		retained:     desc("member_retained_wal_bytes", "Bytes of its log that a PostgreSQL server keeps for lockstep's slot.", "group", "member"),
		retainedMost: desc("member_retained_wal_limit_bytes", "With how many bytes of its log kept for lockstep the slot is given up.", "group", "member"),
		up:           desc("member_up", "1 if the member's change stream can be read, 0 if not.", "group", "member"),
		trusted:      desc("member_trusted", "1 if reads may go to the member, as /api/v1/trust says; 0 if not, or if nothing is known.", "group", "member"),
		tableTrusted: desc("table_trusted", "1 if reads of the table may go to the member, as /api/v1/trust says; 0 if not, or if nothing is known.", "group", "member", "table"),
		position:     desc("member_position_bytes", "Position in the member's own log up to which its stream was applied.", "group", "member"),
		proven:       desc("member_proven_timestamp_seconds", "When the member was last known to have shown everything that it has.", "group", "member"),
		lag:          desc("member_lag_seconds", "For how long the oldest transaction that the member has not replayed has been known; 0 if it has replayed all.", "group", "member"),
		inFlight:     desc("member_in_flight_rows", "Row changes of the reference that the member has not replayed.", "group", "member"),
		changes:      desc("member_row_changes_total", "Row changes of the member's stream that were applied.", "group", "member"),
		keys:         desc("divergent_keys", "Keys whose row differs from what it must be, also ones younger than the lag budget.", "group", "member", "table"),
		ranges:       desc("ranges", "Ranges of keys by state. Only in_step says that the rows are the same.", "group", "member", "table", "state"),
		rows:         desc("rows", "Rows of the table as lockstep keeps them.", "group", "member", "table"),
		open:         desc("divergences_open", "Open divergences, but for those that expected_writes tells of.", "group", "member", "kind"),
		oldest:       desc("divergence_oldest_open_timestamp_seconds", "When of the open divergences, but for those that expected_writes tells of, the oldest was first seen.", "group"),
		errant:       desc("member_errant_transactions", "Transactions with a GTID that the member has and the reference has not; of MariaDB's, of which is known between which numbers they are, at most so many.", "group", "member"),
		expected:     desc("divergences_expected", "Open divergences that expected_writes tells of.", "group", "member"),
		verified:     desc("scrub_oldest_verification_timestamp_seconds", "When of all rows of the table those were read from the server that were longest ago.", "group", "member", "table"),
		fresh:        desc("scrub_fresh_ratio", "Share of the table's ranges, about, whose rows were read within scrub.every.", "group", "member", "table"),
		silent:       desc("silent_changes_total", "Rows that were found to have changed without a trace in the member's log.", "group", "member", "table"),
		scanned:      desc("scrub_rows_total", "Rows that were read again since the start.", "group", "member"),
		waited:       desc("scrub_waited_seconds_total", "How long scrubs of the member have waited, by reason.", "group", "member", "reason"),
		waiting:      desc("notifications_waiting", "Alerts that the receiver has still to be told of.", "receiver", "kind"),
		told:         desc("notifications_total", "Messages that the receiver has taken.", "receiver", "kind"),
		refused:      desc("notifications_failed_total", "Messages that the receiver has not taken; they are sent again.", "receiver", "kind"),
		lastTold:     desc("notifications_last_success_timestamp_seconds", "When the receiver last took a message.", "receiver", "kind"),
		logSize:      desc("audit_log_entries", "Entries of the audit log."),
		logTime:      desc("audit_log_checkpoint_timestamp_seconds", "When the last checkpoint of the audit log was signed."),
		logUp:        desc("audit_log_up", "1 if the audit log takes entries, 0 if they have to be kept for it."),
		logAside:     desc("audit_logs_put_aside", "Audit logs that could not be gone on with and were put aside; they are in data_dir until somebody takes them away."),
		stampUp:      desc("audit_log_timestamp_up", "1 if the time-stamping authority has answered when it was asked last, 0 if not."),
		stampTime:    desc("audit_log_last_timestamp_timestamp_seconds", "When a checkpoint of the audit log was last time-stamped."),
		witnessUp:    desc("audit_log_witness_up", "1 if all witnesses have cosigned the audit log when they were asked last, 0 if not."),
		witnessTime:  desc("audit_log_last_cosigned_timestamp_seconds", "When a checkpoint of the audit log was last cosigned by all witnesses."),
		copyUp:       desc("audit_log_copy_up", "1 if the audit log could be copied when that was tried last, 0 if not."),
		copyTime:     desc("audit_log_last_copy_timestamp_seconds", "When the audit log was last copied."),
		logBytes:     desc("audit_log_bytes", "Disk space of the audit log."),
		logExpected:  desc("audit_log_expected_bytes", "Disk space that the audit log will take when it holds 13 months, at its rate until now."),
		logFree:      desc("audit_log_free_bytes", "Space left on the file system of the audit log."),
		round:        desc("group_round_timestamp_seconds", "When the group's loop last came round; all that is said of the group is of then.", "group"),
		duties:       desc("duty_runs_total", "How often something that is done again and again was done since the start, by how it ended; of the audit log, without group and member.", "group", "member", "duty", "outcome"),
		panics:       desc("panics_total", "Mistakes of lockstep's own that were caught since the start: what they were about is unverified, and the log has the stack of the first of each kind. Those of the group as a whole are without member, those of the audit log without group.", "group", "member"),
		canaries:     desc("canaries_total", "Rows that lockstep wrote into the member to see how fast they are found, by what became of them.", "group", "member", "result"),
		canaryTook:   desc("canary_detection_seconds", "How long after its commit the last canary was raised, which includes the lag budget.", "group", "member"),
		canaryFound:  desc("canary_last_found_timestamp_seconds", "When the last canary was found.", "group", "member"),
		canaryEvery:  desc("canary_interval_seconds", "Time between two canaries, by the configuration.", "group", "member"),
		reload:       desc("config_last_reload_successful", "1 if the configuration could be used when it was last read, 0 if not."),
		reloaded:     desc("config_last_reload_timestamp_seconds", "When the configuration was last read."),
		disk:         desc("store_disk_bytes", "Disk space that the store takes."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.build, c.up, c.retained, c.retainedMost, c.trusted, c.tableTrusted, c.position, c.proven, c.lag, c.inFlight, c.changes, c.keys, c.ranges, c.rows, c.open, c.oldest, c.expected, c.errant, c.round, c.duties, c.panics, c.canaries, c.canaryTook, c.canaryFound, c.canaryEvery, c.logSize, c.logTime, c.logUp, c.logAside, c.logBytes, c.logExpected, c.logFree, c.stampUp, c.stampTime, c.copyUp, c.copyTime, c.witnessUp, c.witnessTime, c.waiting, c.told, c.refused, c.lastTold, c.reload, c.reloaded, c.disk, c.verified, c.fresh, c.silent, c.scanned, c.waited} {
		out <- d
	}
}

// Collect implements [prometheus.Collector]. What is not known is not there: 0 would be an answer.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	var emit emitFunc = func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var count emitFunc = func(d *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, n, labels...)
	}
	emit(c.build, 1, c.version, runtime.Version())
	emit(c.disk, float64(c.health.DiskBytes()))
	at, ok := c.health.LastReload()
	emit.moment(c.reloaded, at)
	emit(c.reload, claim(ok))
	if s := c.health.Audit(); s != nil {
		c.audit(emit, s)
		runs(count, c.duties, "", "", s.Duties)
		c.panicked(count, "", "", s.Duties, 0)
	}
	for _, r := range c.health.Receivers() {
		emit(c.waiting, float64(r.Waiting), r.Name, r.Kind)
		emit.moment(c.lastTold, r.LastSuccess, r.Name, r.Kind)
		count(c.told, float64(r.Sent), r.Name, r.Kind)
		count(c.refused, float64(r.Failed), r.Name, r.Kind)
	}
	for _, g := range c.groups {
		now := g.Status()
		c.panicked(count, now.Name, "", nil, now.Panics)
		if now.Looping {
			emit.moment(c.round, now.At, now.Name)
		}
		emit.moment(c.oldest, oldestOpen(now), now.Name)
		for _, m := range now.Members {
			c.member(emit, now, m)
			c.counts(count, now.Name, m)
			c.canary(emit, count, now.Name, m)
			for _, t := range m.Tables {
				c.table(emit, now, m, t)
			}
		}
	}
}

// oldestOpen is when of a group's open divergences the first was first seen; zero: none is open, or none is known to be.
func oldestOpen(g *status.Group) (at time.Time) {
	for _, m := range g.Members {
		if !m.OldestOpen.IsZero() && (at.IsZero() || m.OldestOpen.Before(at)) {
			at = m.OldestOpen
		}
	}
	return at
}

type emitFunc func(d *prometheus.Desc, v float64, labels ...string)

// moment emits when something was, unless it never was.
func (emit emitFunc) moment(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		emit(d, float64(t.UnixMilli())/1000, labels...)
	}
}

// amount emits how much there is of something bad: of none only if that is known to be so now.
func (emit emitFunc) amount(known bool, d *prometheus.Desc, v float64, labels ...string) {
	if known || v > 0 {
		emit(d, v, labels...)
	}
}

func claim(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}

func (c *collector) audit(emit emitFunc, s *audit.Status) {
	emit(c.logSize, float64(s.Size))
	emit.moment(c.logTime, s.CheckpointAt)
	emit(c.logUp, claim(s.Failed == ""))
	emit(c.logAside, float64(s.Aside))
	emit(c.logBytes, float64(s.Space.Bytes))
	emit(c.logFree, float64(s.Space.Free))
	emit.amount(false, c.logExpected, float64(s.Space.Expected))
	outcome := func(o *audit.Outcome, up, at *prometheus.Desc) {
		if o == nil || o.Failed == "" && o.At.IsZero() { // it was not tried yet
			return
		}
		emit(up, claim(o.Failed == ""))
		emit.moment(at, o.At)
	}
	outcome(s.Stamps, c.stampUp, c.stampTime)
	outcome(s.Copies, c.copyUp, c.copyTime)
	outcome(s.Witnesses, c.witnessUp, c.witnessTime)
}

func runs(count emitFunc, d *prometheus.Desc, group, member string, duties []duty.Runs) {
	for _, r := range duties {
		count(d, float64(r.OK), group, member, r.Name, "ok")
		count(d, float64(r.Failed), group, member, r.Name, "failed")
	}
}

// panicked tells of the panics of duties, and of those that were caught beside them.
func (c *collector) panicked(count emitFunc, group, member string, duties []duty.Runs, beside int64) {
	for _, d := range duties {
		beside += d.Panicked
	}
	count(c.panics, float64(beside), group, member)
}

// kinds are all kinds of divergence, for series that begin at zero.
var kinds = []finding.Kind{finding.Stale, finding.Changed, finding.Missing, finding.Extra}

func (c *collector) member(emit emitFunc, g *status.Group, m status.Member) {
	at := []string{g.Name, m.Name}
	emit(c.trusted, claim(status.Worst(m.Tables).Trusted()), at...)
	fresh := g.Stale == ""
	if fresh && (m.Trouble != "" || !m.ProvenAt.IsZero()) {
		emit(c.up, claim(m.Trouble == ""), at...)
	}
	if m.Exact.LSN > 0 {
		emit(c.position, float64(m.Exact.LSN), at...)
	}
	emit.moment(c.proven, m.ProvenAt.Time, at...)
	heard := fresh && !m.ProvenAt.IsZero()
	emit.amount(heard, c.lag, m.Behind.Seconds(), at...)
	emit.amount(heard, c.inFlight, float64(m.InFlight), at...)
	emit.amount(false, c.retained, float64(m.Retained), at...)
	emit.amount(false, c.retainedMost, float64(m.MostRetained), at...)
	if n := m.ErrantCount; n != nil {
		emit.amount(fresh, c.errant, float64(*n), at...)
	}
	for _, kind := range kinds {
		emit.amount(fresh && m.Open != nil, c.open, float64(m.Open[kind]), g.Name, m.Name, string(kind))
	}
	emit.amount(fresh && m.Open != nil, c.expected, float64(m.Expected), at...)
}

// counts emits what only grows.
func (c *collector) counts(count emitFunc, group string, m status.Member) {
	runs(count, c.duties, group, m.Name, m.Duties)
	c.panicked(count, group, m.Name, m.Duties, m.Panics)
	count(c.changes, float64(m.Applied), group, m.Name)
	count(c.scanned, float64(m.Scanned), group, m.Name)
	for reason, waited := range m.ScrubWaited {
		count(c.waited, waited.Seconds(), group, m.Name, reason)
	}
	for _, t := range m.Tables {
		count(c.silent, float64(t.Silent), group, m.Name, t.Table)
	}
}

func (c *collector) canary(emit, count emitFunc, group string, m status.Member) {
	s := m.Canary
	if s == nil {
		return
	}
	for result, n := range map[string]int64{"found": s.Found, "missed": s.Missed, "failed": s.Failed} {
		count(c.canaries, float64(n), group, m.Name, result)
	}
	emit(c.canaryEvery, s.Every.Seconds(), group, m.Name)
	emit.moment(c.canaryFound, s.LastFound, group, m.Name)
	if !s.LastFound.IsZero() {
		emit(c.canaryTook, s.Last.Seconds(), group, m.Name)
	}
}

func (c *collector) table(emit emitFunc, g *status.Group, m status.Member, t status.Table) {
	at := []string{g.Name, m.Name, t.Table}
	emit(c.tableTrusted, claim(t.Verdict.Trusted()), at...)
	compared := m.Role == "reference" && t.Root != "" || !t.ComparedAt.IsZero()
	emit.amount(compared && g.Stale == "", c.keys, float64(t.DivergentKeys), at...)
	emit.moment(c.verified, t.VerifiedAt.Time, at...)
	if t.Scrubbed {
		emit(c.fresh, t.Fresh, at...)
	}
	if t.Root != "" {
		emit(c.rows, float64(t.Rows), at...)
	}
	if len(t.Ranges) == 0 { // it was not read yet
		return
	}
	for _, state := range status.Verdicts {
		emit(c.ranges, float64(t.Ranges[state]), g.Name, m.Name, t.Table, string(state))
	}
}

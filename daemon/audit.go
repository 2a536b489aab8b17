package daemon

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/mirror"
	"github.com/lockstep-cdc/lockstep/audit/tsa"
	"github.com/lockstep-cdc/lockstep/audit/witness"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// keySpelling returns how keys are spelled in evidence: as they are, or by a keyed hash, under which the same key is the
// same, and which nobody can turn back without the store.
func (d *Daemon) keySpelling() func(string, json.RawMessage) string {
	if d.config().Audit.IncludeKeys {
		return func(_ string, key json.RawMessage) string { return string(key) }
	}
	secret := d.store.Secret()
	return func(table string, key json.RawMessage) string {
		h := hmac.New(sha256.New, secret[:])
		h.Write([]byte("evidence\x00" + table + "\x00"))
		h.Write(key)
		return "hmac-sha256:" + hex.EncodeToString(h.Sum(nil)[:16])
	}
}

// startEvidence records by which configuration what is watched from now on, at a start or in the middle of a run. A log that
// has just begun is told of what is open already.
func (d *Daemon) startEvidence(starts bool) error {
	if d.audit == nil {
		return nil
	}
	now := d.now.Load()
	data := evidence.StartData{Lockstep: d.options.Version, Config: now.config.SHA256}
	for _, g := range now.groups {
		c := g.config()
		scope := evidence.GroupData{
			Name: c.Name, Engine: c.Engine, Reference: g.Status().Reference, Include: c.Tables.Include, Exclude: c.Tables.Exclude,
			LagBudget: c.Budget.Seconds(), Every: now.config.Audit.Every.Seconds(),
		}
		for _, m := range c.Members {
			scope.Members = append(scope.Members, evidence.MemberData{Name: m.Name, ScanOnly: m.ScanOnly})
		}
		data.Groups = append(data.Groups, scope)
	}
	remembered := started{data, d.settings()}
	begins := starts && d.audit.Fresh()
	events, err := d.changesSince(&remembered, begins)
	if err != nil {
		return err
	}
	if starts {
		events = append(events, evidence.Event{Type: evidence.Start, Time: time.Now(), Data: data})
	}
	if begins {
		kind := evidence.DivergenceOpen
		if d.audit.Succeeds() { // what was kept for it may have the opening
			kind = evidence.DivergenceUpdate
		}
		open, err := d.openDivergences(kind)
		if err != nil {
			return err
		}
		events = append(events, open...)
	}
	start, err := json.Marshal(remembered)
	if err != nil {
		return err
	}
	return d.store.RecordStart(start, events...)
}

// started is what is remembered of a start: what it recorded, and the settings that it had.
type started struct {
	evidence.StartData
	Settings []evidence.Setting `json:"settings"`
}

// changesSince are the events that tell what is not as it was at the start before; of a log that begins, what there is.
func (d *Daemon) changesSince(now *started, begins bool) (events []evidence.Event, err error) {
	last, err := d.store.LastStart()
	if err != nil {
		return nil, err
	}
	var before started
	if last != nil {
		if err := json.Unmarshal(last, &before); err != nil {
			return nil, fmt.Errorf("what the last start recorded: %w", err)
		}
	}
	if before.Settings == nil || begins { // the log has none of them yet
		events = evidence.SilenceChanges(nil, now.Settings, true, time.Now())
	} else {
		events = evidence.SilenceChanges(before.Settings, now.Settings, false, time.Now())
	}
	if last == nil {
		return events, nil
	}
	if before.Config != now.Config {
		events = append(events, evidence.Event{Type: evidence.ConfigChange, Time: time.Now(), Data: evidence.ConfigChangeData{From: before.Config, To: now.Config}})
	}
	if changes := evidence.ScopeChanges(&before.StartData, &now.StartData); changes != nil {
		events = append(events, evidence.Event{Type: evidence.ScopeChange, Time: time.Now(), Data: changes})
	}
	return events, nil
}

// openDivergences are the events that tell of those which are open, as of now.
func (d *Daemon) openDivergences(kind evidence.Type) (events []evidence.Event, err error) {
	now := time.Now()
	for _, g := range d.Groups() {
		open, err := g.openEvents(kind, now)
		if err != nil {
			return nil, err
		}
		events = append(events, open...)
	}
	slices.Reverse(events) // the oldest first
	return events, nil
}

// openAudit opens the audit log if the configuration has one.
func (d *Daemon) openAudit(ctx context.Context) (err error) {
	c := d.config().Audit
	if !c.On {
		return d.store.PauseEvidence()
	}
	stamps, err := stampsOf(c.Timestamps)
	if err != nil {
		return err
	}
	copies, err := copiesOf(c.Copy)
	if err != nil {
		return err
	}
	witnesses, err := witnessesOf(c.Witnesses)
	if err != nil {
		return err
	}
	options := audit.Options{Stamps: stamps, Copies: copies, Witnesses: witnesses, Dir: AuditDir(d.config()), Origin: c.Origin, Trees: c.ProvableFor, Version: d.options.Version, Logger: d.log}
	d.audit, err = audit.Open(ctx, options, d.store)
	return err
}

func stampsOf(c config.Timestamps) (s audit.Stamps, err error) {
	s = audit.Stamps{URL: c.URL, Every: c.Every}
	s.Roots, err = rootsOf("audit.timestamps.ca_file", c.CAFile)
	return s, err
}

func copiesOf(c config.Copy) (audit.Copies, error) {
	to := audit.Copies{Every: c.Every, Options: mirror.Options{
		Endpoint: c.Endpoint, Bucket: c.Bucket, Prefix: c.Prefix, Region: c.Region, AccessKey: c.AccessKey, Retain: c.Retain,
	}}
	if c.Governance {
		to.Mode = "governance"
	}
	if c.SecretKeyFile != "" {
		secret, err := config.ReadSecret(c.SecretKeyFile)
		if err != nil {
			return to, fmt.Errorf("audit.copy.secret_key_file: %w", err)
		}
		to.SecretKey = secret.Reveal()
	}
	var err error
	to.CA, err = rootsOf("audit.copy.ca_file", c.CAFile)
	return to, err
}

// witnessEvery is the time between two cosignatures of a witness.
const witnessEvery = time.Minute

func witnessesOf(list []config.Witness) (audit.Witnesses, error) {
	all := audit.Witnesses{Every: witnessEvery}
	for i, c := range list {
		key, err := witness.ParseKey(c.Key)
		if err != nil {
			return all, fmt.Errorf("audit.witnesses[%d].key: %w", i, err)
		}
		all.Of = append(all.Of, &witness.Client{URL: c.URL, Key: key})
	}
	return all, nil
}

// rootsOf reads the certificates of a file that a key of the configuration names; nil: it names none.
func rootsOf(key, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := config.ReadFile(file)
	if err == nil {
		var pool *x509.CertPool
		if pool, err = tsa.Roots(pem); err == nil {
			return pool, nil
		}
	}
	return nil, fmt.Errorf("%s %s: %w: name the certificate of the authority's root", key, file, err)
}

// coverageEvery is the time between two records of coverage; 0: there are none.
func (d *Daemon) coverageEvery() time.Duration {
	if !d.config().Audit.On {
		return 0
	}
	return d.config().Audit.Every
}

// Audit says how it goes with the audit log; nil: there is none. It may be called from any goroutine.
func (d *Daemon) Audit() *audit.Status {
	if d.audit == nil {
		return nil
	}
	s := d.audit.Status()
	return &s
}

// RecordExport keeps in the audit log who has taken a report out of it. It may be called from any goroutine.
func (d *Daemon) RecordExport(e evidence.ExportData) error {
	if d.audit == nil {
		return errors.New("there is no audit log: set audit in the configuration")
	}
	return d.store.Record(evidence.Event{Type: evidence.Export, Group: e.Group, Time: time.Now(), Data: e})
}

// AuditDir is where the audit log of a configuration is.
func AuditDir(c *config.Config) string { return filepath.Join(c.DataDir, "audit") }

// closeAudit records the end and closes the log.
func (d *Daemon) closeAudit() error {
	if d.audit == nil {
		return nil
	}
	err := d.store.Record(evidence.Event{Type: evidence.Stop, Time: time.Now(), Data: struct{}{}})
	if err != nil {
		return err
	}
	return d.audit.Close()
}

package config

import (
	"fmt"
	"regexp"
	"time"
)

// DefaultAuditEvery is what a file gets that says nothing else.
const (
	DefaultAuditEvery  = time.Hour
	DefaultProvableFor = 31 * 24 * time.Hour
	// DefaultCopyEvery is the time between two copies, and DefaultCopyRetain 13 months.
	DefaultCopyEvery  = time.Hour
	DefaultCopyRetain = 13 * 30 * 24 * time.Hour
	// DefaultTimestampEvery is the time between two time-stamps.
	DefaultTimestampEvery = time.Hour
	mostTimestampEvery    = 24 * time.Hour
)

// Audit says what is recorded for auditors.
type Audit struct {
	On          bool          // there is a log
	Every       time.Duration // between two records of what each member was known to hold
	IncludeKeys bool          // keys of rows that differ are recorded as they are
	ProvableFor time.Duration // for how long single ranges can be proven after a coverage; 0: they cannot
	Origin      string        // name of the log; empty: by the host's name
	Timestamps  Timestamps
	Copy        Copy
	Witnesses   []Witness
}

// Witness says who cosigns the log.
type Witness struct {
	URL string
	Key string
}

// Copy says where the log is copied to.
type Copy struct {
	Endpoint      string // of S3; empty: nowhere
	Bucket        string
	Prefix        string
	Region        string
	AccessKey     string // empty: that of the environment or of the instance's role
	SecretKeyFile string
	CAFile        string
	Every         time.Duration
	Retain        time.Duration // for how long objects are locked; 0: they are not
	Governance    bool          // those with a privilege of their own can undo a lock
}

// Timestamps says who tells the time of the log.
type Timestamps struct {
	URL    string // of a time-stamping authority (RFC 3161); empty: nobody does
	CAFile string // by which its stamps are verified as they come; empty: they are not
	Every  time.Duration
}

// origin is what can be part of a key's name, see https://c2sp.org/signed-note.
var origin = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9./_-]{0,99}$`)

func decodeAudit(n node) Audit {
	f := n.fields("every", "include_keys", "provable_for", "origin", "timestamps", "copy", "witnesses")
	if !n.present() {
		return Audit{}
	}
	a := Audit{On: true, Every: f["every"].interval(DefaultAuditEvery), IncludeKeys: f["include_keys"].claim(), Origin: f["origin"].text()}
	a.Timestamps = decodeTimestamps(f["timestamps"])
	a.Copy = decodeCopy(f["copy"])
	a.Witnesses = decodeWitnesses(f["witnesses"])
	a.ProvableFor, _ = f["provable_for"].durationOrOff(DefaultProvableFor)
	if a.Origin != "" && !origin.MatchString(a.Origin) {
		f["origin"].fail(fmt.Sprintf("%q is not usable", a.Origin), "write a name that is yours, without a scheme, such as example.org/lockstep")
	}
	return a
}

func decodeTimestamps(n node) Timestamps {
	f := n.fields("url", "ca_file", "every")
	if !n.present() {
		return Timestamps{}
	}
	const remedy = "write the address of a time-stamping authority, such as https://freetsa.org/tsr"
	f["url"].require(remedy)
	s := Timestamps{URL: f["url"].expanded(), CAFile: f["ca_file"].expanded(), Every: f["every"].interval(DefaultTimestampEvery)}
	if s.URL != "" {
		checkURL(f["url"], s.URL, remedy)
	}
	if s.Every > mostTimestampEvery {
		f["every"].fail(fmt.Sprintf("%v is too rare", s.Every), fmt.Sprintf("write at most %v: verification wants all entries but the last ones stamped", mostTimestampEvery))
	}
	return s
}

func decodeWitnesses(n node) (list []Witness) {
	for _, item := range n.items() {
		f := item.fields("url", "key")
		const remedy = "write the address that lockstep audit witness listens on, such as https://witness.example.org"
		f["url"].require(remedy)
		f["key"].require("write the key that lockstep audit witness prints")
		w := Witness{URL: f["url"].expanded(), Key: f["key"].expanded()}
		if w.URL != "" {
			checkURL(f["url"], w.URL, remedy)
		}
		list = append(list, w)
	}
	return list
}

func decodeCopy(n node) Copy {
	f := n.fields("endpoint", "bucket", "prefix", "region", "access_key", "secret_key_file", "ca_file", "every", "retain", "mode")
	if !n.present() {
		return Copy{}
	}
	const remedy = "write the address of an S3 server, such as https://s3.eu-central-1.amazonaws.com"
	f["endpoint"].require(remedy)
	f["bucket"].require("name the bucket")
	c := Copy{
		Endpoint: f["endpoint"].expanded(), Bucket: f["bucket"].expanded(), Prefix: f["prefix"].expanded(), Region: f["region"].text(),
		AccessKey: f["access_key"].expanded(), SecretKeyFile: f["secret_key_file"].expanded(), CAFile: f["ca_file"].expanded(),
		Every: f["every"].interval(DefaultCopyEvery),
	}
	c.Retain, _ = f["retain"].durationOrOff(DefaultCopyRetain)
	if c.Endpoint != "" {
		checkURL(f["endpoint"], c.Endpoint, remedy)
	}
	if (c.AccessKey == "") != (c.SecretKeyFile == "") {
		n.fail("has one of access_key and secret_key_file", "write both, or none for those of the environment or of the instance's role")
	}
	c.Governance = f["mode"].word("%q is none", "compliance", "governance") == "governance"
	return c
}

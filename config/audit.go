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
	// DefaultTimestampEvery is the time between two time-stamps.
	DefaultTimestampEvery = time.Hour
)

// Audit says what is recorded for auditors.
type Audit struct {
	On          bool          // there is a log
	Every       time.Duration // between two records of what each member was known to hold
	IncludeKeys bool          // keys of rows that differ are recorded as they are
	ProvableFor time.Duration // for how long single ranges can be proven after a coverage; 0: they cannot
	Origin      string        // name of the log; empty: by the host's name
	Timestamps  Timestamps
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
	f := n.fields("every", "include_keys", "provable_for", "origin", "timestamps")
	if !n.present() {
		return Audit{}
	}
	a := Audit{On: true, Every: f["every"].duration(DefaultAuditEvery), IncludeKeys: f["include_keys"].claim(), Origin: f["origin"].text()}
	a.Timestamps = decodeTimestamps(f["timestamps"])
	a.ProvableFor, _ = f["provable_for"].durationOrOff(DefaultProvableFor)
	if f["every"].present() && a.Every < leastEvery {
		f["every"].fail(fmt.Sprintf("%v is too often", a.Every), fmt.Sprintf("write at least %v", leastEvery))
	}
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
	s := Timestamps{URL: f["url"].expanded(), CAFile: f["ca_file"].expanded(), Every: f["every"].duration(DefaultTimestampEvery)}
	if s.URL != "" {
		checkURL(f["url"], s.URL, remedy)
	}
	if s.Every < leastEvery {
		f["every"].fail(fmt.Sprintf("%v is too often", s.Every), fmt.Sprintf("write at least %v", leastEvery))
	}
	return s
}

package audit

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/lockstep-cdc/lockstep/audit/verify"
)

// Expected is what a log is expected to take.
var Expected = expected

// Abandon ends the log as a crash does.
func (l *Log) Abandon() { l.tree.cancel() }

// Sign signs other files in place of those of a report, with the key of the log in a folder, as its owner can.
func Sign(dir string, files map[string][]byte) ([]byte, error) {
	k, err := loadKey(dir, "")
	if err != nil {
		return nil, err
	}
	var e dsse.Envelope
	if err := json.Unmarshal(files[verify.StatementFile], &e); err != nil {
		return nil, err
	}
	payload, err := e.DecodeB64Payload()
	if err != nil {
		return nil, err
	}
	var s verify.Statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, err
	}
	s.Subject = nil
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name != verify.StatementFile {
			s.Subject = append(s.Subject, verify.SubjectOf(name, files[name]))
		}
	}
	return k.envelope(s)
}

// Appender writes a log by itself.
type Appender struct{ *appender }

// OpenAppender opens the log in a folder. Given is called after each entry that was given to the library.
func OpenAppender(ctx context.Context, dir string, given func()) (Appender, error) {
	k, err := loadKey(dir, "example.org/lockstep")
	if err != nil {
		return Appender{}, err
	}
	a, err := newAppender(ctx, dir+"/"+tiles, k, 100*time.Millisecond)
	if err == nil {
		a.given = given
	}
	return Appender{a}, err
}

// Append adds entries behind next others.
func (a Appender) Append(ctx context.Context, next uint64, entries [][]byte) error {
	return a.append(ctx, next, entries)
}

// Size is how many entries the log has.
func (a Appender) Size(ctx context.Context) (uint64, error) { return a.reader.IntegratedSize(ctx) }

// Abandon ends it as a crash does.
func (a Appender) Abandon() { a.cancel() }

// Close ends it once all is in a checkpoint.
func (a Appender) Close(ctx context.Context) error {
	defer a.cancel()
	return a.shutdown(ctx)
}

package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/lockstep-cdc/lockstep/audit/archive"
	"github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// Export writes a report of a period from the log in dir, signed with its key, as a ZIP archive, and returns what it says. A
// log that does not pass verification is not reported on. The version is that of lockstep, by which its files are worded.
func Export(ctx context.Context, dir string, p report.Period, version string, w io.Writer) (*report.Report, error) {
	k, err := loadKey(dir, "")
	if err != nil {
		return nil, err
	}
	p.Origin, p.From, p.To = k.signer.Name(), p.From.UTC().Truncate(time.Microsecond), p.To.UTC().Truncate(time.Microsecond) // as entries have it
	x, err := extract(ctx, dir, k, p)
	if err != nil {
		return nil, err
	}
	r, err := report.Derive(p, x.entries)
	if err != nil {
		return nil, err
	}
	files, err := r.Files()
	if err != nil {
		return nil, err
	}
	for _, e := range x.entries {
		if sum := e.RangesSHA256(); sum != "" {
			name := evidence.RangesDir + "/" + sum
			if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				return nil, fmt.Errorf("the ranges of entry %d: %w: restore the file from a backup", e.Seq, err)
			}
		}
	}
	if err := x.stamps(dir, files); err != nil {
		return nil, fmt.Errorf("time-stamps of the audit log: %w", err)
	}
	if err := x.witnessed(dir, files); err != nil {
		return nil, fmt.Errorf("cosigned checkpoints of the audit log: %w", err)
	}
	files[verify.EntriesFile], files[verify.CheckpointFile] = x.lines.Bytes(), x.checkpoint
	if files[verify.ProofFile], err = json.MarshalIndent(x.proof, "", " "); err != nil {
		return nil, err
	}
	statement, err := k.statement(p, version, x.log, files)
	if err != nil {
		return nil, err
	}
	contents := []archive.Content{{Name: verify.StatementFile, Bytes: statement}}
	for _, name := range slices.Sorted(maps.Keys(files)) { // as the statement has them
		contents = append(contents, archive.Content{Name: name, Bytes: files[name]})
	}
	return r, archive.Write(w, contents)
}

// extraction is the part of a log that a report is about.
type extraction struct {
	log        *verify.Result
	checkpoint []byte
	entries    []*evidence.Entry
	lines      bytes.Buffer
	proof      *verify.Proof
}

// extract reads and verifies the log as of its checkpoint of now.
func extract(ctx context.Context, dir string, k *key, p report.Period) (*extraction, error) {
	within := func(e *evidence.Entry) bool { return !e.Time.Before(p.From) && e.Time.Before(p.To) }
	x, err := extractThose(ctx, dir, k, within)
	if err != nil {
		return nil, err
	}
	if len(x.entries) == 0 {
		return nil, fmt.Errorf("the audit log has no entries from %s up to %s; it has some from %s to %s",
			p.From.Format(time.RFC3339), p.To.Format(time.RFC3339), x.log.From.Format(time.RFC3339), x.log.To.Format(time.RFC3339))
	}
	first, last := x.entries[0].Seq, x.entries[len(x.entries)-1].Seq
	if uint64(len(x.entries)) != last-first+1 { // the clock was set, and came back into the period: all that is in between belongs to it
		if x, err = extractThose(ctx, dir, k, func(e *evidence.Entry) bool { return e.Seq >= first && e.Seq <= last }); err != nil {
			return nil, err
		}
	}
	x.proof, err = x.log.Prove(first, last+1)
	return x, err
}

func extractThose(ctx context.Context, dir string, k *key, belongs func(*evidence.Entry) bool) (x *extraction, err error) {
	x = &extraction{}
	x.log, x.checkpoint, err = readVerified(ctx, dir, k.public, func(e *evidence.Entry, sealed []byte) {
		if belongs(e) {
			x.entries = append(x.entries, e)
			x.lines.Write(sealed)
			x.lines.WriteByte('\n')
		}
	})
	return x, err
}

// readVerified reads the log in dir as of its checkpoint of now, which it returns too, and verifies it.
func readVerified(ctx context.Context, dir, public string, each func(*evidence.Entry, []byte)) (*verify.Result, []byte, error) {
	folder := filepath.Join(dir, tiles)
	checkpoint, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return nil, nil, fmt.Errorf("there is no checkpoint of the audit log yet: %w", err)
	}
	log, err := verify.Log(ctx, folder, verify.Options{Key: public, Checkpoint: checkpoint, Each: each})
	if err == nil {
		err = log.Err()
	}
	return log, checkpoint, err
}

// stamps adds time-stamps over the entries.
func (x *extraction) stamps(dir string, files map[string][]byte) error {
	list, err := verify.Stamps(filepath.Join(dir, tiles))
	if err != nil {
		return err
	}
	return addAnchors(x, files, verify.StampProofFile, list, func(s verify.Stamp) uint64 { return s.Size }, func(s verify.Stamp) {
		files[s.Name()+verify.StampOf], files[s.Name()+verify.StampReply] = s.Checkpoint, s.Reply
	})
}

// witnessed adds cosigned checkpoints over the entries, of each witness.
func (x *extraction) witnessed(dir string, files map[string][]byte) error {
	list, err := verify.Witnessed(filepath.Join(dir, tiles))
	if err != nil {
		return err
	}
	size := func(c verify.Cosigned) uint64 { return c.Size }
	for len(list) > 0 {
		by := list[0].By
		others := slices.IndexFunc(list, func(c verify.Cosigned) bool { return c.By != by })
		if others < 0 {
			others = len(list)
		}
		err := addAnchors(x, files, verify.CosignedProofFile(by), list[:others], size, func(c verify.Cosigned) { files[c.Name()] = c.Checkpoint })
		if err != nil {
			return err
		}
		list = list[others:]
	}
	return nil
}

// addAnchors adds, of what was said by others, the last over each day's entries and the first over all of them, to which a proof
// may belong.
func addAnchors[A any](x *extraction, files map[string][]byte, proof string, list []A, size func(A) uint64, add func(A)) error {
	first, end := x.entries[0].Seq, x.entries[len(x.entries)-1].Seq+1
	for i, a := range list {
		n := size(a)
		switch {
		case n <= first || n > x.log.Size:
			continue
		case n < end && i+1 < len(list) && x.sameDay(n, size(list[i+1])):
			continue
		}
		add(a)
		if n < end {
			continue
		}
		if n > end {
			after, err := x.log.ProveAt(first, end, n)
			if err == nil {
				files[proof], err = json.MarshalIndent(after, "", " ")
			}
			return err
		}
		return nil
	}
	return nil
}

// sameDay reports whether the last entries of two parts of the log, both among those of the period, are of one day.
func (x *extraction) sameDay(a, b uint64) bool {
	last := func(size uint64) string {
		return x.entries[size-1-x.entries[0].Seq].Time.Format(time.DateOnly)
	}
	return b <= x.entries[len(x.entries)-1].Seq+1 && last(a) == last(b)
}

// statement signs the digests of all files.
func (k *key) statement(p report.Period, version string, at *verify.Result, files map[string][]byte) ([]byte, error) {
	s := verify.Statement{Type: verify.StatementType, PredicateType: verify.PredicateType, Predicate: verify.Predicate{
		Origin: p.Origin, Group: p.Group, From: p.From, To: p.To, Size: at.Size, Root: at.Root, Lockstep: version,
	}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		s.Subject = append(s.Subject, verify.SubjectOf(name, files[name]))
	}
	return k.envelope(s)
}

// envelope signs a statement.
func (k *key) envelope(s verify.Statement) ([]byte, error) {
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	sig, err := k.signer.Sign(dsse.PAE(verify.PayloadType, payload))
	if err != nil {
		return nil, fmt.Errorf("sign the report: %w", err)
	}
	return json.MarshalIndent(dsse.Envelope{
		PayloadType: verify.PayloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []dsse.Signature{{KeyID: fmt.Sprintf("%s+%08x", k.signer.Name(), k.signer.KeyHash()), Sig: base64.StdEncoding.EncodeToString(sig)}},
	}, "", " ")
}

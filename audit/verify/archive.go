package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/lockstep-cdc/lockstep/audit/archive"
	"github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// The files of an archive beside those of the report.
const (
	EntriesFile    = "entries.jsonl"
	ProofFile      = "proof.json"
	CheckpointFile = "checkpoint"
	StatementFile  = "statement.dsse.json"
	StampProofFile = StampsDir + "/proof.json" // for a time-stamp over more than the entries
)

// Types of the signed statement: https://in-toto.io/Statement/v1 in an envelope of https://github.com/secure-systems-lab/dsse.
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "urn:lockstep:replication-integrity:v1"
)

// Statement says what an archive holds.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Predicate `json:"predicate"`
}

// Subject is a file.
type Subject struct {
	Name        string            `json:"name"`
	Digest      map[string]string `json:"digest"`
	Annotations Annotations       `json:"annotations"`
}

// Annotations say what in-toto has no field of its own for.
type Annotations struct {
	Length *int64 `json:"length"` // bytes
}

// SubjectOf describes a file.
func SubjectOf(name string, content []byte) Subject {
	length := int64(len(content))
	return Subject{Name: name, Digest: Digest(content), Annotations: Annotations{&length}}
}

// file is what a subject says of a file.
func (s *Subject) file() (archive.File, error) {
	f := archive.File{Name: s.Name}
	sum, err := hex.DecodeString(s.Digest["sha256"])
	if err != nil || len(sum) != len(f.SHA256) {
		return f, fmt.Errorf("%s has no SHA-256 of %.80q", StatementFile, s.Name)
	}
	if s.Annotations.Length == nil {
		return f, fmt.Errorf("%s has no length of %.80q", StatementFile, s.Name)
	}
	copy(f.SHA256[:], sum)
	f.Length = *s.Annotations.Length
	return f, nil
}

// Predicate says what the files are about.
type Predicate struct {
	Origin string    `json:"origin"`
	Group  string    `json:"group,omitempty"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Size   uint64    `json:"log_size"`
	Root   string    `json:"log_root"`
	// Lockstep is the version that has worded the files.
	Lockstep string `json:"lockstep"`
}

// Digest spells the digest of a file's content.
func Digest(content []byte) map[string]string {
	sum := sha256.Sum256(content)
	return map[string]string{"sha256": hex.EncodeToString(sum[:])}
}

// Archive checks a report. The error is for what is no archive, and for a key that is none.
//
// Nothing of the archive is believed before its statement, which is read first, is known to be signed by the key: that says
// which files there are, how long they are and what is in them, and the archive must hold those and nothing else.
func Archive(ctx context.Context, file string, o Options) (*Result, error) {
	verifier, err := o.verifier()
	if err != nil {
		return nil, err
	}
	f, size, err := openFile(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a := &exported{Result: newResult(verifier), verifier: verifier}
	proven := false
	a.files, err = archive.Read(f, size, archive.Statement{Name: StatementFile, Most: mostStatement, Verify: func(content []byte) ([]archive.File, error) {
		files, err := a.signed(content)
		proven = err == nil
		return files, err
	}})
	if errors.Is(err, archive.ErrNone) {
		return nil, fmt.Errorf("%s is no report: %w", file, err)
	}
	const signed, same = "statement is signed by the key", "files are those of the statement"
	if !proven {
		a.check(signed, "", err)
		return a.Result, nil
	}
	a.check(signed, a.Origin, nil)
	if a.check(same, fmt.Sprintf("%d files, and nothing else", len(a.statement.Subject)), err) {
		a.all(ctx, o)
	}
	return a.Result, nil
}

// mostStatement is how long a statement may be, for some 60,000 files, and mostSignatures how many it may have: all that is
// read before it is known who has signed.
const (
	mostStatement  = 16 << 20
	mostSignatures = 16
)

// exported is a report that is checked, of which the statement is signed and the files are those of the statement.
type exported struct {
	*Result
	files     map[string][]byte
	verifier  note.Verifier
	statement Statement
	entries   []*evidence.Entry
}

func (a *exported) all(ctx context.Context, o Options) {
	at, err := a.checkpoint(a.files[CheckpointFile])
	if !a.check("checkpoint is signed by the key", fmt.Sprintf("%d entries of %s", a.Size, a.Origin), err) {
		return
	}
	sealed := bytes.Split(bytes.TrimSuffix(a.files[EntriesFile], []byte("\n")), []byte("\n"))
	a.check("entries are in the signed log", fmt.Sprintf("%d entries, root %s", len(sealed), a.Root), a.proven(at, sealed))
	if o.Seen != nil {
		a.check(seenCheck, "", errors.New("a report cannot show it: verify the log itself with --seen"))
	}
	if o.Log != "" {
		found, err := a.of(ctx, o)
		a.check("report is of the log", found, err)
	}
	var tells story
	chain := a.follow(sealed, &tells)
	a.check("entries follow on one another", fmt.Sprintf("%d, each with the hash of the one before", len(sealed)), chain)
	a.check("files are what the entries say", "derived again", a.derived(chain, o.Version))
	if lists := rangeLists(a.entries); len(lists) > 0 {
		a.check("long lists of ranges are the ones that were recorded", fmt.Sprintf("%d", len(lists)), a.lists(lists))
	}
	tells.checks(a.Result, chain)
	a.clock()
	if chain == nil {
		a.anchors(o, a.files, func(proof string) (*anchored, error) { return a.anchored(sealed, proof) })
	}
}

// of holds the report against a log: that must hold all that the report's checkpoint covers.
func (a *exported) of(ctx context.Context, o Options) (string, error) {
	r, err := Log(ctx, o.Log, Options{Key: o.Key, Seen: a.files[CheckpointFile]})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, which has %d entries by now and passes by itself", o.Log, r.Size), nil
}

// anchored are the entries, with the proof for what is over later ones too.
func (a *exported) anchored(sealed [][]byte, proof string) (*anchored, error) {
	var p Proof
	if err := json.Unmarshal(a.files[ProofFile], &p); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", ProofFile, err)
	}
	tree, err := trees.NewRange(0, p.First, p.Left)
	if err != nil {
		return nil, err
	}
	s := &anchored{first: p.First, tree: tree, times: a.times, settled: a.settled()}
	for _, e := range sealed {
		s.hashes = append(s.hashes, rfc6962.DefaultHasher.HashLeaf(e))
	}
	if raw, there := a.files[proof]; there {
		if err := json.Unmarshal(raw, &s.after); err != nil {
			return nil, fmt.Errorf("%s cannot be read: %w", proof, err)
		}
	}
	return s, nil
}

// signed reads the statement, and returns the files that it names.
func (a *exported) signed(content []byte) (files []archive.File, err error) {
	var e dsse.Envelope
	if err := json.Unmarshal(content, &e); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", StatementFile, err)
	}
	payload, err := e.DecodeB64Payload()
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", StatementFile, err)
	}
	if len(e.Signatures) > mostSignatures {
		return nil, fmt.Errorf("%s has %d signatures, more than %d", StatementFile, len(e.Signatures), mostSignatures)
	}
	ours := slices.ContainsFunc(e.Signatures, func(s dsse.Signature) bool {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		return err == nil && a.verifier.Verify(dsse.PAE(e.PayloadType, payload), sig)
	})
	if !ours || e.PayloadType != PayloadType {
		return nil, fmt.Errorf("%s has no signature of %s by this key: if the log's key was rotated, take the one of the time of the report", StatementFile, a.Origin)
	}
	if err := json.Unmarshal(payload, &a.statement); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", StatementFile, err)
	}
	if a.statement.PredicateType != PredicateType || a.statement.Predicate.Origin != a.Origin {
		return nil, fmt.Errorf("%s is about something else", StatementFile)
	}
	for _, s := range a.statement.Subject {
		f, err := s.file()
		if err != nil {
			return nil, fmt.Errorf("%w: lockstep %s has made it: verify it with that version", err, a.statement.Predicate.Lockstep)
		}
		files = append(files, f)
	}
	return files, nil
}

func (a *exported) checkpoint(raw []byte) (*log.Checkpoint, error) {
	at, _, _, err := log.ParseCheckpoint(raw, a.verifier.Name(), a.verifier)
	if err != nil {
		return nil, fmt.Errorf("no checkpoint that %s has signed: %w", a.verifier.Name(), err)
	}
	a.Size, a.Root = at.Size, fmt.Sprintf("%x", at.Hash)
	return at, nil
}

func (a *exported) proven(at *log.Checkpoint, sealed [][]byte) error {
	var p Proof
	if err := json.Unmarshal(a.files[ProofFile], &p); err != nil {
		return fmt.Errorf("%s cannot be read: %w", ProofFile, err)
	}
	if p.Size != at.Size {
		return fmt.Errorf("%s is of a log of %d entries, the checkpoint of one of %d", ProofFile, p.Size, at.Size)
	}
	root, err := p.Root(sealed)
	if err != nil {
		return fmt.Errorf("%s does not fit the entries: %w", ProofFile, err)
	}
	if !bytes.Equal(root, at.Hash) {
		return errors.New("with the proof, the entries give another root than the signed one: one was changed, left out or added")
	}
	return nil
}

// follow reads the entries, of which the first follows on one that is not here.
func (a *exported) follow(sealed [][]byte, tells *story) error {
	first, err := evidence.Parse(sealed[0])
	if err != nil {
		return fmt.Errorf("the first entry %w", err)
	}
	head, err := first.Before()
	if err != nil {
		return err
	}
	tells.partial = first.Seq > 0
	for _, line := range sealed {
		var e *evidence.Entry
		if e, head, err = head.Follow(line); err != nil {
			return err
		}
		a.entries = append(a.entries, e)
		a.take(e, tells)
	}
	return nil
}

// derived makes the report again.
func (a *exported) derived(chain error, version string) error {
	if chain != nil {
		return errors.New("cannot be said of entries that do not follow on one another")
	}
	p := a.statement.Predicate
	r, err := report.Derive(report.Period{Origin: p.Origin, Group: p.Group, From: p.From, To: p.To}, a.entries)
	if err != nil {
		return err
	}
	files, err := r.Files()
	if err != nil {
		return err
	}
	for name := range a.files {
		if _, told := files[name]; !told && !a.beside(name) {
			return fmt.Errorf("%s is no file of a report", name)
		}
	}
	for name, want := range files {
		line := differsAt(a.files[name], want)
		switch {
		case line > 0 && version != p.Lockstep:
			return fmt.Errorf("%s differs at line %d from what lockstep %s makes of the entries; it was made by %s: verify it with that version", name, line, version, p.Lockstep)
		case line > 0:
			return fmt.Errorf("%s differs from what the entries say at line %d", name, line)
		}
	}
	return nil
}

// beside reports whether a file belongs to a report, and is not derived from its entries.
func (a *exported) beside(name string) bool {
	switch dir, base := path.Split(name); dir {
	case "":
		return slices.Contains([]string{StatementFile, EntriesFile, ProofFile, CheckpointFile}, base)
	case evidence.RangesDir + "/":
		return slices.Contains(rangeLists(a.entries), base)
	default:
		return dir == StampsDir+"/" || dir == WitnessesDir+"/"
	}
}

// rangeLists are the digests of the lists of ranges that are too long for their entries.
func rangeLists(entries []*evidence.Entry) (sums []string) {
	for _, e := range entries {
		if sum := e.RangesSHA256(); sum != "" && !slices.Contains(sums, sum) {
			sums = append(sums, sum)
		}
	}
	return sums
}

func (a *exported) lists(sums []string) error {
	for _, sum := range sums {
		name := evidence.RangesDir + "/" + sum
		content, there := a.files[name]
		switch {
		case !there:
			return fmt.Errorf("%s is missing", name)
		case Digest(content)["sha256"] != sum:
			return fmt.Errorf("%s was changed", name)
		}
	}
	return nil
}

// differsAt is the first line in which two texts differ; 0: none.
func differsAt(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	as, bs := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(as), len(bs)) {
		if !bytes.Equal(as[i], bs[i]) {
			return i + 1
		}
	}
	return min(len(as), len(bs)) + 1
}

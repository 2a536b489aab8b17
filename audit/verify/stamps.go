package verify

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"

	"lockstep/audit/tsa"
)

// Time-stamps are in a folder of the log: for a checkpoint of so many entries, that and the reply of the authority
// (RFC 3161). They can be verified without lockstep: openssl ts -verify -data N.checkpoint -in N.tsr -CAfile ca.pem
const (
	StampsDir  = "timestamps"
	StampOf    = ".checkpoint"
	StampReply = ".tsr"
)

// Stamp is a checkpoint with the reply of a time-stamping authority.
type Stamp struct {
	Size       uint64
	Checkpoint []byte
	Reply      []byte
}

// Name is that of the stamp's files without their endings.
func (s *Stamp) Name() string { return path.Join(StampsDir, fmt.Sprintf("%020d", s.Size)) }

// Stamps reads those of the log in a folder, the oldest first.
func Stamps(dir string) ([]Stamp, error) {
	list, err := os.ReadDir(filepath.Join(dir, StampsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, f := range list {
		name := path.Join(StampsDir, f.Name())
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return stampsOf(files), nil
}

// stampsOf finds the stamps among files, the oldest first.
func stampsOf(files map[string][]byte) (list []Stamp) {
	for name, reply := range files {
		if base, is := strings.CutSuffix(name, StampReply); is && path.Dir(name) == StampsDir {
			checkpoint := files[base+StampOf]
			list = append(list, Stamp{Claimed(checkpoint), checkpoint, reply})
		}
	}
	slices.SortFunc(list, func(a, b Stamp) int { return bytes.Compare([]byte(a.Name()), []byte(b.Name())) })
	return list
}

// ahead is how much later than the time-stamp over it an entry may say that it is, for clocks that differ.
const ahead = time.Minute

// stamped is what time-stamps are held against: the entries from first on, of a log.
type stamped struct {
	first  uint64
	tree   *compact.Range // of the entries before
	hashes [][]byte
	times  []time.Time
	after  *Proof // for a stamp over more entries than these
}

// verify checks stamps, and says what they show: until when which entry was in the log at the latest.
func (s *stamped) verify(stamps []Stamp, roots *x509.CertPool) (string, error) {
	if len(stamps) == 0 {
		return "", errors.New("there are none")
	}
	done, longest, covered := uint64(0), time.Duration(0), uint64(0)
	for _, stamp := range stamps {
		at, err := tsa.Verify(stamp.Reply, stamp.Checkpoint, roots)
		if err != nil {
			return "", fmt.Errorf("%s: %w", stamp.Name(), err)
		}
		var checkpoint log.Checkpoint
		if _, err := checkpoint.Unmarshal(stamp.Checkpoint); err != nil {
			return "", fmt.Errorf("%s: %w", stamp.Name(), err)
		}
		end := s.first + uint64(len(s.hashes))
		if stamp.Size <= s.first || stamp.Size > end && s.after == nil {
			return "", fmt.Errorf("%s is of %d entries, and those here are %d to %d", stamp.Name(), stamp.Size, s.first, end-1)
		}
		for ; done < min(stamp.Size, end)-s.first; done++ {
			if err := s.tree.Append(s.hashes[done], nil); err != nil {
				return "", err
			}
			if entry := s.times[done]; entry.After(at.Add(ahead)) {
				return "", fmt.Errorf("entry %d says that it is of %s, and was time-stamped at %s", s.first+done, entry.Format(time.RFC3339), at.Format(time.RFC3339))
			}
			longest = max(longest, at.Sub(s.times[done]))
		}
		root, err := s.tree.GetRootHash(nil)
		if stamp.Size > end {
			root, err = s.after.rootOver(s.tree)
		}
		if err == nil && !bytes.Equal(root, checkpoint.Hash) {
			err = fmt.Errorf("%s is over other entries: it has another root than the first %d", stamp.Name(), stamp.Size)
		}
		if err != nil {
			return "", err
		}
		covered = min(stamp.Size, end)
	}
	detail := fmt.Sprintf("%d over entries %d to %d, each within %v of its time", len(stamps), s.first, covered-1, longest.Round(time.Second))
	if end := s.first + uint64(len(s.hashes)); covered < end {
		detail += fmt.Sprintf("; none yet over %d to %d", covered, end-1)
	}
	return detail, nil
}

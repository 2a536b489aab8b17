package verify

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/transparency-dev/formats/log"

	"github.com/lockstep-cdc/lockstep/audit/tsa"
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
	files, err := folder{dir}.within(StampsDir)
	return stampsOf(files), err
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

// stampAnchors verifies time-stamps.
func stampAnchors(stamps []Stamp, roots *x509.CertPool) (list []anchor, err error) {
	for _, stamp := range stamps {
		a := anchor{name: stamp.Name(), size: stamp.Size}
		if a.at, err = tsa.Verify(stamp.Reply, stamp.Checkpoint, roots); err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		if a.root, err = rootIn(stamp.Checkpoint, stamp.Size); err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		list = append(list, a)
	}
	return list, nil
}

// rootIn is the root in a checkpoint of so many entries.
func rootIn(raw []byte, size uint64) ([]byte, error) {
	var c log.Checkpoint
	_, err := c.Unmarshal(raw)
	if err == nil && c.Size != size {
		err = fmt.Errorf("it is over %d entries", c.Size)
	}
	return c.Hash, err
}

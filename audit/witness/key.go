// Package witness is both sides of a log's witness, which cosigns checkpoints of the log, each only if it continues the one
// that it has cosigned before: https://c2sp.org/tlog-witness.
package witness

import (
	"errors"
	"fmt"
	"strings"
	"time"

	cosignatures "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Key is that by which the cosignatures of a witness are known.
type Key struct{ verifier note.Verifier }

// ParseKey reads a verifier key for cosignatures (https://c2sp.org/tlog-cosignature), as a witness prints it.
func ParseKey(vkey string) (*Key, error) {
	vkey = strings.TrimSpace(vkey)
	v, err := cosignatures.NewVerifierForCosignatureV1(vkey)
	if _, other := note.NewVerifier(vkey); err == nil && other == nil { // which is taken too
		err = errors.New("it is for signatures of a log")
	}
	if err != nil {
		return nil, fmt.Errorf("that is no key of a witness: give what lockstep audit witness has printed: %w", err)
	}
	return &Key{v}, nil
}

// Name is that of the witness.
func (k *Key) Name() string { return k.verifier.Name() }

// ID tells keys apart, in file names too.
func (k *Key) ID() string { return fmt.Sprintf("%08x", k.verifier.KeyHash()) }

// Verify returns when the witness has cosigned a checkpoint.
func (k *Key) Verify(cosigned []byte) (time.Time, error) {
	n, err := note.Open(cosigned, note.VerifierList(k.verifier))
	if err != nil {
		return time.Time{}, fmt.Errorf("%s has not cosigned it: %w", k.Name(), err)
	}
	return cosignatures.CoSigV1Timestamp(n.Sigs[0]) // those of others are not among them
}

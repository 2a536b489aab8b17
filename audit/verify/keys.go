package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// RotationText is what both keys sign when one of a log follows on the other.
func RotationText(old, next string) string {
	return "lockstep audit log key rotation v1\n" + old + "\n" + next + "\n"
}

// keys are those that a log has had, as its entries tell.
type keys struct {
	trusted note.Verifier
	chain   []tenure // in their order
	wrong   error    // the first of them that is not in order
}

// tenure is a key and from which entry on it is the one that signs.
type tenure struct {
	public   string
	from     uint64
	verifier note.Verifier
}

func (k *keys) take(e *evidence.Entry) {
	var err error
	switch e.Type {
	case evidence.LogStart:
		var d evidence.LogStartData
		if len(k.chain) == 0 && json.Unmarshal(e.Data, &d) == nil && d.Key != "" {
			err = k.follow(e, d.Key)
		}
	case evidence.KeyRotation:
		err = k.rotation(e)
	}
	if err != nil && k.wrong == nil {
		k.wrong = fmt.Errorf("entry %d: %w", e.Seq, err)
	}
}

func (k *keys) rotation(e *evidence.Entry) error {
	var d evidence.KeyRotationData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return err
	}
	if len(k.chain) == 0 {
		if err := k.follow(e, d.Old); err != nil {
			return err
		}
	}
	last := k.chain[len(k.chain)-1]
	if d.New == last.public && len(k.chain) > 1 && d.Old == k.chain[len(k.chain)-2].public {
		return nil // said again after a crash
	}
	if d.Old != last.public {
		return fmt.Errorf("rotates from a key of hash %s, but the one of now has %s", keyHash(d.Old), keyHash(last.public))
	}
	if err := k.follow(e, d.New); err != nil {
		return err
	}
	statement, err := note.Open([]byte(d.Statement), note.VerifierList(last.verifier, k.chain[len(k.chain)-1].verifier))
	if err != nil || len(statement.Sigs) != 2 || statement.Text != RotationText(d.Old, d.New) {
		k.chain = k.chain[:len(k.chain)-1]
		return errors.New("the rotation to another key is not signed by both keys")
	}
	return nil
}

// follow adds a key, of the same log as the trusted one.
func (k *keys) follow(e *evidence.Entry, public string) error {
	v, err := note.NewVerifier(public)
	if err != nil {
		return fmt.Errorf("names a key that is none: %w", err)
	}
	if v.Name() != k.trusted.Name() {
		return fmt.Errorf("names a key of %s", v.Name())
	}
	k.chain = append(k.chain, tenure{public, e.Seq, v})
	return nil
}

func keyHash(public string) string {
	if v, err := note.NewVerifier(public); err == nil {
		return fmt.Sprintf("%08x", v.KeyHash())
	}
	return "nothing"
}

// at returns the keys that may sign a log of so many entries: the one in force, and those that follow on it. The trusted one
// must be among all, so that it vouches for them.
func (k *keys) at(size uint64) []note.Verifier {
	same := func(t tenure) bool { return t.verifier.KeyHash() == k.trusted.KeyHash() }
	if !slices.ContainsFunc(k.chain, same) {
		return []note.Verifier{k.trusted}
	}
	var list []note.Verifier
	for i, t := range k.chain {
		if i+1 == len(k.chain) || size <= k.chain[i+1].from {
			list = append(list, t.verifier)
		}
	}
	return list
}

// rotations says how often the key was rotated.
func (k *keys) rotations() string {
	var at []string
	for _, t := range k.chain[min(1, len(k.chain)):] {
		at = append(at, fmt.Sprintf("entry %d: %s", t.from, t.public))
	}
	return strings.Join(at, "; ")
}

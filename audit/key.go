package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/lockstep-cdc/lockstep/audit/durable"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// The files of a log's folder.
const (
	keyFile  = "log.key"      // signs; to be read by lockstep only
	nextFile = "log.key.next" // signs from the next start on
	pubFile  = "log.vkey"     // verifies; to be given to auditors
	tiles    = "log"          // the log itself: https://c2sp.org/tlog-tiles
)

// key signs the log's checkpoints.
type key struct {
	signer note.Signer
	public string // as verifiers want it
}

// NextKey reports whether there is a key in a log's folder that is to sign from the next start on.
func NextKey(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, nextFile))
	return err == nil
}

// loadKey reads the key of the log in dir, and makes one at the first start: Ed25519, as a note key
// (https://pkg.go.dev/golang.org/x/mod/sumdb/note).
func loadKey(dir, origin string) (*key, error) {
	path := filepath.Join(dir, keyFile)
	k, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if origin, err = nameOf(origin); err == nil {
			k, err = makeKey(path, origin)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := k.publish(dir); err != nil {
		return nil, err
	}
	if origin != "" && k.signer.Name() != origin {
		return nil, fmt.Errorf("audit.origin is %q, but the log in %s is of %q: give it that name, or the new one a data_dir of its own", origin, dir, k.signer.Name())
	}
	return k, nil
}

// nameOf is the name of a log for which the configuration has none.
func nameOf(origin string) (string, error) {
	if origin != "" {
		return origin, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name the audit log: %w: set audit.origin", err)
	}
	return host + "/lockstep", nil
}

func readKey(path string) (*key, error) {
	private, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	k, err := parseKey(strings.TrimSpace(string(private)))
	if err != nil {
		return nil, fmt.Errorf("audit key %s is damaged: restore it from a backup: %w", path, err)
	}
	return k, nil
}

// parseKey reads PRIVATE+KEY+name+hash+key, of which the last is the algorithm's number and the seed, in base64.
func parseKey(private string) (*key, error) {
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(private, "+", 5)[4])
	if err != nil {
		return nil, err
	}
	public, err := note.NewEd25519VerifierKey(signer.Name(), ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &key{signer, public}, nil
}

func makeKey(path, origin string) (*key, error) {
	private, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, fmt.Errorf("make audit key: %w", err)
	}
	if err := durable.WriteFile(path, []byte(private+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("make audit key: %w", err)
	}
	return parseKey(private)
}

// publish has the public half in its file.
func (k *key) publish(dir string) error {
	path := filepath.Join(dir, pubFile)
	if is, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(is)) == k.public {
		return nil
	}
	if err := durable.WriteFile(path, []byte(k.public+"\n"), 0o644); err != nil {
		return fmt.Errorf("public audit key: %w", err)
	}
	return nil
}

// RotateKey makes the key that the log in dir is signed with from the next start on, and returns its public half. Only then
// is the one of now destroyed.
func RotateKey(dir string) (string, error) {
	now, err := readKey(filepath.Join(dir, keyFile))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, nextFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is there already: reload or start lockstep, which takes it up", path)
	}
	next, err := makeKey(path, now.signer.Name())
	if err != nil {
		return "", err
	}
	return next.public, nil
}

// nextKey is the key that is to follow; nil: none is. One that cannot be used is no reason to record nothing: the key of now signs on.
func (o Options) nextKey() *key {
	next, err := readKey(filepath.Join(o.Dir, nextFile))
	if err == nil {
		return next
	}
	if !errors.Is(err, fs.ErrNotExist) {
		o.Logger.Error("the audit log goes on with the key that it has: the next one cannot be used", "err", err.Error(),
			"hint", "take that file away, and run lockstep audit rotate-key again")
	}
	return nil
}

// handOver is the statement, signed by both keys, that one follows on the other.
func (k *key) handOver(next *key) (evidence.Event, error) {
	statement, err := note.Sign(&note.Note{Text: verify.RotationText(k.public, next.public)}, k.signer, next.signer)
	if err != nil {
		return evidence.Event{}, fmt.Errorf("rotate the audit key: %w", err)
	}
	return evidence.Event{Type: evidence.KeyRotation, Time: time.Now(), Data: evidence.KeyRotationData{Old: k.public, New: next.public, Statement: string(statement)}}, nil
}

// takeUp puts the next key in the place of the one before.
func (k *key) takeUp(dir string) error {
	if err := os.Rename(filepath.Join(dir, nextFile), filepath.Join(dir, keyFile)); err != nil {
		return fmt.Errorf("rotate the audit key: %w", err)
	}
	return k.publish(dir)
}

// PublicKey returns the key that verifies the log in dir, for auditors.
func PublicKey(dir string) (string, error) {
	public, err := os.ReadFile(filepath.Join(dir, pubFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no audit log in %s: set audit in the configuration and start lockstep", dir)
	}
	return strings.TrimSpace(string(public)), err
}

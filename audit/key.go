package audit

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// The files of a log's folder.
const (
	keyFile = "log.key"  // signs; to be read by lockstep only
	pubFile = "log.vkey" // verifies; to be given to auditors
	tiles   = "log"      // the log itself: https://c2sp.org/tlog-tiles
)

// key signs the log's checkpoints.
type key struct {
	signer   note.Signer
	verifier note.Verifier
	public   string // as verifiers want it
}

// loadKey reads the key of the log in dir, and makes one at the first start: Ed25519, as a note key
// (https://pkg.go.dev/golang.org/x/mod/sumdb/note).
func loadKey(dir, origin string) (*key, error) {
	path := filepath.Join(dir, keyFile)
	private, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(dir, origin)
	}
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	public, err := os.ReadFile(filepath.Join(dir, pubFile))
	if err != nil {
		return nil, fmt.Errorf("audit key: %w: restore it beside %s", err, keyFile)
	}
	k, err := parseKey(string(private), string(public))
	if err != nil {
		return nil, fmt.Errorf("audit key %s: %w", path, err)
	}
	if origin != "" && k.signer.Name() != origin {
		return nil, fmt.Errorf("audit.origin is %q, but the log in %s is of %q: give it that name, or the new one a data_dir of its own", origin, dir, k.signer.Name())
	}
	return k, nil
}

func parseKey(private, public string) (*key, error) {
	public = strings.TrimSpace(public)
	signer, err := note.NewSigner(strings.TrimSpace(private))
	if err != nil {
		return nil, errors.New("is damaged: restore it from a backup")
	}
	verifier, err := note.NewVerifier(public)
	if err != nil || verifier.Name() != signer.Name() || verifier.KeyHash() != signer.KeyHash() {
		return nil, fmt.Errorf("does not belong to %s beside it: restore both from one backup", pubFile)
	}
	return &key{signer, verifier, public}, nil
}

func makeKey(dir, origin string) (*key, error) {
	if origin == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name the audit log: %w: set audit.origin", err)
		}
		origin = host + "/lockstep"
	}
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, fmt.Errorf("make audit key: %w", err)
	}
	// The public half is there whenever the private one is.
	if err := writeSynced(filepath.Join(dir, pubFile), public+"\n", 0o644); err != nil {
		return nil, fmt.Errorf("make audit key: %w", err)
	}
	if err := writeSynced(filepath.Join(dir, keyFile), private+"\n", 0o600); err != nil {
		return nil, fmt.Errorf("make audit key: %w", err)
	}
	return parseKey(private, public)
}

// writeSynced makes a file appear whole or not at all.
func writeSynced(path, text string, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// PublicKey returns the key that verifies the log in dir, for auditors.
func PublicKey(dir string) (string, error) {
	public, err := os.ReadFile(filepath.Join(dir, pubFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no audit log in %s: set audit in the configuration and start lockstep", dir)
	}
	return strings.TrimSpace(string(public)), err
}

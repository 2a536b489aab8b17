package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
)

const redacted = "[redacted]"

// Secret is text that never shows in logs, errors or JSON. [Secret.Reveal] is the one way to it.
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string { return redacted }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return redacted }

// LogValue hides the text from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the text from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Password reads the member's password anew, so that a rotated file is seen without a restart. Empty: none is set.
func (m *Member) Password() (string, error) {
	if m.PasswordFile == "" {
		return m.EnvPassword.Reveal(), nil
	}
	secret, err := ReadSecret(m.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password of member %s: %w", m.Name, err)
	}
	return secret.Reveal(), nil
}

// PasswordFunc returns Password, or nil if no password is set.
func (m *Member) PasswordFunc() func() (string, error) {
	if m.PasswordFile == "" && m.EnvPassword == "" {
		return nil
	}
	return m.Password
}

// mounted is where container runtimes put secrets: readable by all who are in the container, and nobody else is.
const mounted = "/run/secrets/"

// ReadSecret reads a file that holds nothing but a secret, less the one newline that editors put at its end. One that everybody on
// the machine can read is refused: it is none any more. An error says what to do.
func ReadSecret(path string) (Secret, error) {
	f, err := open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: make it, or correct the path", err)
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w: let the user that lockstep runs as read it", err)
	case err != nil:
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 && info.Mode().IsRegular() && !strings.HasPrefix(filepath.Clean(path), mounted) {
		return "", fmt.Errorf("%s is open to everybody on this machine (mode %04o): chmod o= %s", path, mode, path)
	}
	data, err := readAll(f)
	if err != nil {
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("%s is empty: write the secret into it", path)
	}
	return Secret(text), nil
}

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A file of 100,000 brackets kept the parser busy for 40 seconds; one of a gigabyte would have been read whole.
func TestAFileThatIsTooMuchIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"brackets":      {strings.Repeat("[", 100_000), "file:1: more than 32 levels are nested"},
		"braces":        {"a: 1\nb: " + strings.Repeat("{a: ", 100_000), "file:2: more than 32 levels are nested"},
		"entries":       {strings.Repeat("- ", 100_000), "more than 32 levels are nested"},
		"explicit keys": {strings.Repeat("? ", 100_000), "more than 32 levels are nested"},
		"tags":          {strings.Repeat("!!x ", 100_000), "more than 32 levels are nested"},
		"indented":      {"a:\n" + strings.Repeat(" ", 201) + "b: 1\n", "file:2: more than 32 levels are nested"},
		"large":         {"# " + strings.Repeat("x", maxBytes), "file:1: the file has more than 1048576 bytes"},
	} {
		if _, err := Parse("file", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 200 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "lockstep.yaml")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 2*maxBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Error(err)
	}
	if line, problem := tooMuch(Example); problem != "" {
		t.Errorf("the example: line %d: %s", line, problem)
	}
	long := "groups:\n  - {name: shop, tables: {include: [" + strings.Repeat(`"public.orders_of_a_long_name_[]", `, 1000) + "]}}\n"
	if line, problem := tooMuch([]byte(long)); problem != "" {
		t.Errorf("a long list: line %d: %s", line, problem)
	}
}

// A password that everybody on the machine could read was taken without a word.
func TestASecretThatEverybodyCanReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o440: "", 0o660: "",
		0o644: path + " is open to everybody on this machine (mode 0644): chmod o= " + path,
		0o602: path + " is open to everybody on this machine (mode 0602): chmod o= " + path,
	} {
		if err := os.WriteFile(path, []byte("hunter2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		secret, err := ReadSecret(path)
		switch {
		case want == "" && (err != nil || secret.Reveal() != "hunter2"):
			t.Errorf("mode %o: %v", mode, err)
		case want != "" && (err == nil || err.Error() != want):
			t.Errorf("mode %o: %v, want %s", mode, err, want)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Opened in the usual way a pipe waits for who writes to it, and no signal ended that.
func TestAPipeThatNobodyWritesToHoldsNobodyUp(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{fifo: fifo + " is a pipe that nobody writes to: name a file", folder: folder + " is a folder: name a file"} {
		if _, err := Load(path); err == nil || err.Error() != "read configuration: "+want {
			t.Errorf("configuration: %v", err)
		}
		if _, err := ReadSecret(path); err == nil || err.Error() != want {
			t.Errorf("secret: %v", err)
		}
	}
}

// A shell's <(…) is a pipe, too.
func TestAPipeIsReadToItsEnd(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = w.WriteString("hunter2\n")
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if secret, err := ReadSecret(fmt.Sprintf("/dev/fd/%d", r.Fd())); err != nil || secret.Reveal() != "hunter2" {
		t.Errorf("%v", err)
	}
}

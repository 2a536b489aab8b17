package audit_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	notes "golang.org/x/mod/sumdb/note"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

func (d *desk) public() string {
	d.t.Helper()
	public, err := audit.PublicKey(d.folder())
	if err != nil {
		d.t.Fatal(err)
	}
	return public
}

func TestALogPassesByTheKeyBeforeAndAfterItsRotation(t *testing.T) {
	d := newDesk(t)
	d.record(day(time.Now())...)
	d.close()
	seen := d.checkpoint()
	d.open()
	keys := []string{d.public()}
	for n := range 2 {
		next, err := audit.RotateKey(d.folder())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := audit.RotateKey(d.folder()); err == nil || !strings.Contains(err.Error(), "reload or start lockstep") {
			t.Errorf("a second rotation before the first is taken up says %v", err)
		}
		keys = append(keys, next)
		d.close()
		d.open()
		d.record(day(time.Now().Add(time.Duration(n+1) * 24 * time.Hour))...)
	}
	d.close()
	if d.public() != keys[2] {
		t.Errorf("the public key is %s, want %s", d.public(), keys[2])
	}
	for _, key := range keys {
		r := d.verify(verify.Options{Key: key, Seen: seen})
		if !r.OK() || r.Counts[evidence.KeyRotation] != 2 {
			t.Errorf("by %s: %v %q", key, r.Counts, failures(r))
		}
	}
	if _, err := os.Stat(filepath.Join(d.folder(), "log.key.next")); !os.IsNotExist(err) {
		t.Errorf("the next key is still there: %v", err)
	}
	_, files := d.export(time.Now().Add(-time.Hour), time.Now().Add(100*time.Hour))
	if v := d.verifyArchive(files); !v.OK() {
		t.Errorf("the report of a log whose key was rotated: %q", failures(v))
	}
}

// A crash may come after the rotation is recorded and before the old key is gone.
func TestARotationIsEndedAfterACrash(t *testing.T) {
	d := newDesk(t)
	d.record(day(time.Now())...)
	old := d.public()
	path := func(name string) string { return filepath.Join(d.folder(), name) }
	before := content(t, path("log.key"))
	if _, err := audit.RotateKey(d.folder()); err != nil {
		t.Fatal(err)
	}
	next := content(t, path("log.key.next"))
	d.close()
	d.open()
	d.close()
	write(t, path("log.key"), before)
	write(t, path("log.key.next"), next)
	d.open()
	d.record(day(time.Now().Add(24 * time.Hour))...)
	d.close()
	if r := d.passes(); r.Counts[evidence.KeyRotation] != 2 {
		t.Errorf("recorded was %v", r.Counts)
	}
	if r := d.verify(verify.Options{Key: old}); !r.OK() {
		t.Errorf("by the key before: %q", failures(r))
	}
}

// Whoever has stolen the old key cannot sign the log of after its rotation, nor hand it on to another key.
func TestAKeyThatWasRotatedSignsNoMore(t *testing.T) {
	d := newDesk(t)
	d.record(day(time.Now())...)
	stolen := strings.TrimSpace(string(content(t, filepath.Join(d.folder(), "log.key"))))
	old := d.public()
	if _, err := audit.RotateKey(d.folder()); err != nil {
		t.Fatal(err)
	}
	d.close()
	d.open()
	d.record(day(time.Now().Add(24 * time.Hour))...)
	d.close()
	now := d.public()
	d.passes()
	signer, err := notes.NewSigner(stolen)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(d.checkpoint()), "\n\n")
	forged, err := notes.Sign(&notes.Note{Text: text + "\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{old, now} {
		if r := d.verify(verify.Options{Key: key, Checkpoint: forged}); r.OK() || !strings.Contains(failures(r), "no checkpoint that example.org/lockstep has signed") {
			t.Errorf("a checkpoint by the stolen key passes: %v", r.Checks)
		}
	}

	private, public, err := notes.GenerateKey(rand.Reader, "example.org/lockstep")
	if err != nil {
		t.Fatal(err)
	}
	thief, err := notes.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, statement := range map[string]struct {
		text    string
		signers []notes.Signer
	}{
		"by the new key only":  {verify.RotationText(now, public), []notes.Signer{thief}},
		"by the stolen key":    {verify.RotationText(now, public), []notes.Signer{signer, thief}},
		"about two other keys": {verify.RotationText(old, public), []notes.Signer{signer, thief}},
	} {
		t.Run(name, func(t *testing.T) {
			signed, err := notes.Sign(&notes.Note{Text: statement.text}, statement.signers...)
			if err != nil {
				t.Fatal(err)
			}
			d.t = t
			d.open()
			d.record(evidence.Event{Type: evidence.KeyRotation, Time: time.Now().Add(48 * time.Hour), Data: evidence.KeyRotationData{Old: now, New: public, Statement: string(signed)}})
			d.close()
			if r := d.verify(verify.Options{}); r.OK() || !strings.Contains(failures(r), "the rotation to another key is not signed by both keys") {
				t.Errorf("verification says %v", r.Checks)
			}
		})
	}
}

// The command was run as root, and lockstep could not read the key that it was to take up: it ended, and no start went well again.
func TestTheNextKeyIsOfWhoeverHasTheFolder(t *testing.T) {
	d := newDesk(t)
	d.close()
	user, group := uint32(os.Getuid()), uint32(os.Getgid())
	if user == 0 { // nobody else makes files of others
		user, group = 4711, 4711
		if err := os.Chown(d.folder(), int(user), int(group)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := audit.RotateKey(d.folder()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(d.folder(), "log.key.next"))
	if err != nil {
		t.Fatal(err)
	}
	if is := info.Sys().(*syscall.Stat_t); is.Uid != user || is.Gid != group || info.Mode() != 0o600 {
		t.Errorf("it is of %d:%d, %v", is.Uid, is.Gid, info.Mode())
	}
}

// A log is signed with the key that it has, as long as there is no other that can be used.
func TestANextKeyThatCannotBeUsedIsNotTakenUp(t *testing.T) {
	d := newDesk(t)
	d.close()
	public := d.public()
	path := filepath.Join(d.folder(), "log.key.next")
	write(t, path, []byte("PRIVATE+KEY+"))
	d.open()
	d.record(day(time.Now())...)
	d.close()
	if r := d.passes(); d.public() != public || r.Counts[evidence.KeyRotation] != 0 {
		t.Errorf("it is signed by %s, with %d rotations", d.public(), r.Counts[evidence.KeyRotation])
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.RotateKey(d.folder()); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.close()
	if r := d.passes(); r.Counts[evidence.KeyRotation] != 1 {
		t.Errorf("the next key that can be used is not taken up: %v", r.Counts)
	}
}

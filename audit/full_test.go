package audit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/evidence"
)

// note is an event of its own.
func note(n int) evidence.Event {
	return evidence.Event{Type: evidence.Stop, Time: time.Now(), Data: map[string]int{"note": n}}
}

func (d *desk) until(what string, met func() bool) {
	d.t.Helper()
	for end := time.Now().Add(30 * time.Second); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatalf("waited for %s: %+v", what, d.log.Status())
		}
	}
}

// A log on a disk that is full, again and again, takes no entries, and gets all of them in their order once there is space.
func TestAFullDiskLosesAndDoublesNothing(t *testing.T) {
	d := newDesk(t)
	d.close()
	disk := filepath.Join(d.folder(), "log")
	old := filepath.Join(t.TempDir(), "log")
	if err := os.Rename(disk, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small disk cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	t.Cleanup(d.close)
	if err := os.CopyFS(disk, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	d.open()
	ballast := filepath.Join(disk, "ballast")
	n := 0
	for round := range 4 {
		fill(t, ballast)
		for range 300 + 100*round {
			d.record(note(n))
			n++
		}
		d.until("the log to refuse entries", func() bool { return d.log.Status().Failed != "" })
		if round == 2 { // a crash or a restart in the middle is no better
			d.log.Abandon()
			d.end()
			<-d.done
			if err := d.store.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			d.open()
		} else if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		d.until("the log to have all entries", func() bool { s := d.log.Status(); return s.Failed == "" && s.Size >= uint64(n)+1 })
	}
	d.close()
	if r := d.passes(); r.Size != uint64(n)+1 {
		t.Errorf("the log has %d entries, want %d: %v", r.Size, n+1, r.Counts)
	}
}

// fill leaves no space on the disk of a file.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 16
		}
	}
	if _, err := fmt.Fprint(f, "x"); err == nil {
		t.Fatal("the disk is not full")
	}
}

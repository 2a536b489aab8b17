package audit_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/mirror"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// A log that is put aside and the one that follows it are two in the bucket, and each passes when it is fetched.
func TestALogIsCopiedAndItsSuccessorBesideIt(t *testing.T) {
	s3 := s3mem.New()
	if err := s3.CreateBucket("evidence"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(s3).Server())
	defer server.Close()
	d := newDesk(t)
	d.record(evidence.Event{Type: evidence.Stop, Time: time.Now(), Data: struct{}{}})
	d.close()
	d.copies = audit.Copies{Every: 10 * time.Millisecond, Options: mirror.Options{Endpoint: server.URL, Bucket: "evidence", Prefix: "logs", AccessKey: "a", SecretKey: "b", Region: "us-east-1"}}
	copied := func(logs int) {
		t.Helper()
		d.open()
		until(t, "a copy", func() bool { o := d.log.Status().Copies; return o != nil && !o.At.IsZero() && o.Failed == "" })
		d.close()
		folder := t.TempDir()
		list, err := s3.ListBucket("evidence", nil, gofakes3.ListBucketPage{})
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, o := range list.Contents {
			object, err := s3.GetObject("evidence", o.Key, nil)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, object.Size)
			if _, err := object.Contents.Read(b); err != nil && err.Error() != "EOF" {
				t.Fatal(err)
			}
			path := filepath.Join(folder, o.Key)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, path, b)
			found[strings.Split(o.Key, "/")[1]] = true
		}
		for log := range found {
			r, err := verify.Log(t.Context(), filepath.Join(folder, "logs", log), verify.Options{Key: d.public()})
			if err != nil || !r.OK() {
				t.Errorf("%s in the bucket: %v %v", log, err, r)
			}
		}
		if len(found) != logs {
			t.Errorf("there are %v in the bucket", found)
		}
	}
	copied(1)
	if err := os.RemoveAll(filepath.Join(d.folder(), "log")); err != nil { // a disk is lost; the store knows of entries
		t.Fatal(err)
	}
	copied(2)
}

func TestACopyThatFailsIsSaidAndTheLogGoesOn(t *testing.T) {
	d := newDesk(t)
	d.close()
	d.copies = audit.Copies{Every: 10 * time.Millisecond, Options: mirror.Options{Endpoint: "http://127.0.0.1:1", Bucket: "evidence", AccessKey: "a", SecretKey: "b", Region: "us-east-1"}}
	d.open()
	until(t, "a failure", func() bool { return strings.Contains(d.log.Status().Copies.Failed, "connection refused") })
	d.record(evidence.Event{Type: evidence.Stop, Time: time.Now(), Data: struct{}{}})
	until(t, "the entry", func() bool { return d.log.Status().Size == 2 })
	d.close()
	d.passes()
}

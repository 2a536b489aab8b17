package mirror_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/xml"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"github.com/lockstep-cdc/lockstep/audit/mirror"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// book is a log that grows, of lockstep's entries.
type book struct {
	t      testing.TB
	dir    string
	signer note.Signer
	key    string
	head   evidence.Head
}

func newBook(t testing.TB) *book {
	private, public, err := note.GenerateKey(rand.Reader, "example.org/lockstep")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return &book{t: t, dir: filepath.Join(t.TempDir(), "log"), signer: signer, key: public}
}

// grow has the log be of a size.
func (b *book) grow(size uint64) *book {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	defer cancel()
	var entries []*tessera.Entry
	for b.head.Next < size {
		sealed, next, err := b.head.Seal(evidence.Event{Type: evidence.Stop, Time: time.Now(), Data: struct{}{}})
		if err != nil {
			b.t.Fatal(err)
		}
		entries, b.head = append(entries, tessera.NewEntry(sealed)), next
	}
	driver, err := posix.New(ctx, posix.Config{Path: b.dir})
	if err != nil {
		b.t.Fatal(err)
	}
	// A queue that all of them fill, so that no timer has a say in their order.
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().WithCheckpointSigner(b.signer).
		WithCheckpointInterval(100*time.Millisecond).WithBatching(uint(len(entries)), time.Hour))
	if err != nil {
		b.t.Fatal(err)
	}
	var added []tessera.IndexFuture
	for _, e := range entries {
		added = append(added, appender.Add(ctx, e))
	}
	for _, f := range added {
		if _, err := f(); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := shutdown(ctx); err != nil {
		b.t.Fatal(err)
	}
	return b
}

// verifies has a folder hold a whole log of a size.
func (b *book) verifies(dir string, size uint64) {
	b.t.Helper()
	r, err := verify.Log(b.t.Context(), dir, verify.Options{Key: b.key})
	if err != nil {
		b.t.Fatal(err)
	}
	if r.Err() != nil || r.Size != size {
		b.t.Fatalf("%d entries, want %d: %v", r.Size, size, r.Err())
	}
}

// written is a PUT that the server has taken.
type written struct {
	name   string
	header http.Header
	at     time.Time
}

// server is an S3 server in this process, of which requests can be made to fail. The fake behind it knows versions of objects but not locks.
type server struct {
	t       testing.TB
	backend *s3mem.Backend
	web     *httptest.Server

	mu    sync.Mutex // guards the fields below
	locks bool       // the bucket has Object Lock
	puts  []written
	fail  func(r *http.Request, puts int) *reply // nil: none fails
	then  func(puts int)                         // after a PUT
}

// reply is an error of S3.
type reply struct {
	XMLName xml.Name `xml:"Error"`
	Status  int      `xml:"-"`
	Code    string
	Message string
}

func newServer(t testing.TB) *server {
	s := &server{t: t, backend: s3mem.New(), locks: true}
	if err := s.backend.CreateBucket("audit"); err != nil {
		t.Fatal(err)
	}
	if err := s.backend.SetVersioningConfiguration("audit", gofakes3.VersioningConfiguration{Status: gofakes3.VersioningEnabled}); err != nil {
		t.Fatal(err)
	}
	s.web = httptest.NewServer(s.handler())
	t.Cleanup(s.web.Close)
	return s
}

func (s *server) handler() http.Handler {
	fake := gofakes3.New(s.backend, gofakes3.WithIntegrityCheck(true)).Server()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		isPut := r.Method == http.MethodPut && object != ""
		var failed *reply
		if s.fail != nil {
			failed = s.fail(r, len(s.puts))
		}
		switch {
		case failed != nil:
		case r.URL.Query().Has("object-lock") && s.locks:
			io.WriteString(w, `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>`)
			return
		case r.URL.Query().Has("object-lock"):
			failed = &reply{Status: 404, Code: "ObjectLockConfigurationNotFoundError", Message: "Object Lock configuration does not exist for this bucket"}
		case isPut && !s.locks && r.Header.Get("X-Amz-Object-Lock-Mode") != "":
			failed = &reply{Status: 400, Code: "InvalidRequest", Message: "Bucket is missing ObjectLockConfiguration"}
		case isPut && r.Header.Get("Content-Md5") == "":
			failed = &reply{Status: 400, Code: "InvalidRequest", Message: "Content-MD5 HTTP header is required for Put Object requests with Object Lock parameters"}
		}
		if failed != nil {
			w.WriteHeader(failed.Status)
			xml.NewEncoder(w).Encode(failed)
			return
		}
		fake.ServeHTTP(w, r)
		if isPut {
			s.puts = append(s.puts, written{object, r.Header, time.Now()})
			if s.then != nil {
				s.then(len(s.puts))
			}
		}
	})
}

// set changes how requests are answered.
func (s *server) set(fail func(r *http.Request, puts int) *reply, then func(puts int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.then = fail, then
}

// lacksLocks has the bucket be one without Object Lock.
func (s *server) lacksLocks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locks = false
}

// taken is what was put, in order.
func (s *server) taken() []written {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.puts)
}

func (s *server) names() []string {
	var names []string
	for _, p := range s.taken() {
		names = append(names, p.name)
	}
	return names
}

func (s *server) options() mirror.Options {
	return mirror.Options{Endpoint: s.web.URL, Bucket: "audit", AccessKey: "key", SecretKey: "secret", Retain: 24 * time.Hour}
}

func (s *server) mirror(change ...func(*mirror.Options)) *mirror.Mirror {
	s.t.Helper()
	o := s.options()
	for _, c := range change {
		c(&o)
	}
	m, err := mirror.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// download returns a folder with what is in the bucket.
func (s *server) download(prefix string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	list, err := s.backend.ListBucket("audit", &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, o := range list.Contents {
		got, err := s.backend.GetObject("audit", o.Key, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		var content bytes.Buffer
		if _, err := content.ReadFrom(got.Contents); err != nil {
			s.t.Fatal(err)
		}
		name, ours := strings.CutPrefix(o.Key, prefix)
		if !ours {
			s.t.Fatalf("object %s does not begin with %s", o.Key, prefix)
		}
		write(s.t, filepath.Join(dir, name), content.Bytes())
	}
	return dir
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

package mirror_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit/mirror"
)

// copies has a copy succeed.
func copies(t *testing.T, m *mirror.Mirror, dir string, beside ...string) mirror.Done {
	t.Helper()
	done, err := m.Copy(t.Context(), dir, beside...)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestABucketHoldsAWholeLogAfterEveryCopy(t *testing.T) {
	holdsAWholeLog(t, 1, 255, 256, 257, 600)
}

// Around a full tile of the second level; of which pieces a log of any size is made has tests of its own.
func TestSoakABucketHoldsAWholeLongLogAfterEveryCopy(t *testing.T) {
	if os.Getenv("LOCKSTEP_SOAK") == "" {
		t.Skip("takes a minute of verifying entries: make soak runs it")
	}
	holdsAWholeLog(t, 65535, 65537)
}

func holdsAWholeLog(t *testing.T, sizes ...uint64) {
	t.Helper()
	b, s := newBook(t), newServer(t)
	m := s.mirror(func(o *mirror.Options) { o.Prefix = "/logs/shop/" })
	if err := m.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, size := range sizes {
		before := len(s.names())
		done := copies(t, m, b.grow(size).dir)
		if want := (mirror.Done{Size: size, Objects: len(s.names()) - before}); done != want {
			t.Errorf("copied %+v, want %+v", done, want)
		}
		got := s.download("logs/shop/")
		b.verifies(got, size)
		kept := content(t, filepath.Join(got, fmt.Sprintf("checkpoints/%020d", size)))
		if !bytes.Equal(kept, content(t, filepath.Join(b.dir, "checkpoint"))) {
			t.Errorf("of %d entries another checkpoint is kept", size)
		}
		if done := copies(t, m, b.dir); done.Objects != 0 || done.Size != size {
			t.Errorf("a copy of what is there did %+v", done)
		}
	}
	once(t, s)
	// Each older checkpoint still has its tiles.
	older := s.download("logs/shop/")
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.Rename(filepath.Join(older, "checkpoints"), kept); err != nil {
		t.Fatal(err)
	}
	for _, size := range sizes {
		write(t, filepath.Join(older, "checkpoint"), content(t, filepath.Join(kept, fmt.Sprintf("%020d", size))))
		b.verifies(older, size)
	}
}

// once has no object have been written twice, but for the checkpoint.
func once(t *testing.T, s *server) {
	t.Helper()
	seen := make(map[string]int)
	for _, name := range s.names() {
		if seen[name]++; seen[name] > 1 && filepath.Base(name) != "checkpoint" {
			t.Errorf("%s was written %d times", name, seen[name])
		}
	}
}

func TestOnlyWhatTheCheckpointNeedsIsCopiedAndItComesLast(t *testing.T) {
	b, s := newBook(t), newServer(t)
	for _, size := range []uint64{3, 250, 258, 300} { // which leaves partial tiles of each
		b.grow(size)
	}
	copies(t, s.mirror(), b.dir)
	want := []string{
		"tile/entries/000", "tile/entries/001.p/44", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1",
		"checkpoints/00000000000000000300", "checkpoint",
	}
	if got := s.names(); !slices.Equal(got, want) {
		t.Errorf("copied %q, want %q", got, want)
	}
}

func TestEveryObjectIsLockedFromItsCopyOn(t *testing.T) {
	b, s := newBook(t).grow(257), newServer(t)
	began := time.Now()
	copies(t, s.mirror(func(o *mirror.Options) { o.Mode = "governance" }), b.dir)
	for _, p := range s.taken() {
		until, err := time.Parse(time.RFC3339, p.header.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil || until.Before(began.Add(24*time.Hour)) || until.After(p.at.Add(24*time.Hour+time.Second)) {
			t.Errorf("%s, put at %s, is locked until %s: %v", p.name, p.at, until, err)
		}
		if p.header.Get("X-Amz-Object-Lock-Mode") != "GOVERNANCE" || p.header.Get("Content-Md5") == "" {
			t.Errorf("%s was put with %v", p.name, p.header)
		}
	}
	before := len(s.names())
	copies(t, s.mirror(), b.grow(258).dir)
	for _, p := range s.taken()[before:] {
		if p.header.Get("X-Amz-Object-Lock-Mode") != "COMPLIANCE" {
			t.Errorf("%s was put with %v", p.name, p.header)
		}
	}
	s.lacksLocks()
	before = len(s.names())
	m := s.mirror(func(o *mirror.Options) { o.Retain = 0 })
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
	copies(t, m, b.grow(259).dir)
	for _, p := range s.taken()[before:] {
		if p.header.Get("X-Amz-Object-Lock-Mode") != "" || p.header.Get("X-Amz-Object-Lock-Retain-Until-Date") != "" {
			t.Errorf("%s was put with %v", p.name, p.header)
		}
	}
}

// Whenever a copy is ended, what is in the bucket is a whole log, and the next copy completes it.
func TestACopyThatEndsInTheMiddleLeavesAWholeLog(t *testing.T) {
	b := newBook(t).grow(1)
	first := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(first, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	b.grow(600)
	const all = 9 // three of entries, three tiles and one above, two of the checkpoint
	for n := range all {
		for name, stop := range map[string]func(s *server, end context.CancelFunc){
			"refused": func(s *server, _ context.CancelFunc) {
				s.set(func(r *http.Request, puts int) *reply {
					if r.Method == http.MethodPut && puts >= 4+n { // the first copy's
						return &reply{Status: 403, Code: "AccessDenied", Message: "Access Denied."}
					}
					return nil
				}, nil)
			},
			"written, but killed": func(s *server, end context.CancelFunc) {
				s.set(nil, func(puts int) {
					if puts == 4+n+1 {
						end()
					}
				})
			},
		} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("put %d %s restart %t", n, name, restart), func(t *testing.T) {
					s := newServer(t)
					m := s.mirror()
					copies(t, m, first)
					ctx, end := context.WithCancel(t.Context())
					defer end()
					stop(s, end)
					_, err := m.Copy(ctx, b.dir)
					got := s.download("")
					// All is there with the last put but one, and an answer to the last may come before the end does.
					if _, missing := os.Stat(filepath.Join(got, "checkpoints/00000000000000000600")); missing == nil {
						b.verifies(got, 600)
					} else if b.verifies(got, 1); err == nil {
						t.Error("the copy that was ended is said to be complete")
					}
					s.set(nil, nil)
					if restart {
						m = s.mirror()
					}
					copies(t, m, b.dir)
					b.verifies(s.download(""), 600)
					once(t, s)
					if len(s.names()) != 4+all {
						t.Errorf("%d objects were written: %q", len(s.names()), s.names())
					}
				})
			}
		}
	}
}

func TestARestartWritesNothingTwice(t *testing.T) {
	b, s := newBook(t).grow(600), newServer(t)
	beside := filepath.Join(t.TempDir(), "tsr")
	write(t, filepath.Join(beside, "1"), []byte("stamp"))
	copies(t, s.mirror(), b.dir, beside)
	before := len(s.names())
	if done := copies(t, s.mirror(), b.dir, beside); done != (mirror.Done{Size: 600}) || len(s.names()) != before {
		t.Errorf("the copy after a restart wrote %q", s.names()[before:])
	}
	copies(t, s.mirror(), b.grow(601).dir, beside)
	want := []string{"tile/entries/002.p/89", "tile/0/002.p/89", "checkpoints/00000000000000000601", "checkpoint"}
	if got := s.names()[before:]; !slices.Equal(got, want) {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

// What somebody has deleted, or put another object in the place of, is there again after the next start.
func TestARestartRestoresWhatIsMissing(t *testing.T) {
	b, s := newBook(t).grow(600), newServer(t)
	copies(t, s.mirror(), b.dir)
	if _, err := s.backend.DeleteObject("audit", "tile/0/001"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.backend.PutObject("audit", "tile/entries/000", map[string]string{}, strings.NewReader("x"), 1, nil); err != nil {
		t.Fatal(err)
	}
	before := len(s.names())
	copies(t, s.mirror(), b.dir)
	if got, want := s.names()[before:], []string{"tile/entries/000", "tile/0/001"}; !slices.Equal(got, want) {
		t.Errorf("wrote %q, want %q", got, want)
	}
	b.verifies(s.download(""), 600)
}

// The log grows while it is copied, and takes partial tiles away of which there is a wider one.
func TestAPartialTileThatVanishedIsTheBeginningOfAWiderOne(t *testing.T) {
	for _, to := range []uint64{300, 512, 600} {
		b, s := newBook(t), newServer(t)
		raw := content(t, filepath.Join(b.grow(260).dir, "checkpoint"))
		want := make(map[string][]byte)
		for _, name := range []string{"tile/entries/001.p/4", "tile/0/001.p/4"} {
			want[name] = content(t, filepath.Join(b.dir, name))
		}
		b.grow(to)
		for name := range want {
			if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
				t.Fatal(err)
			}
			if to > 300 { // all of them, as the log's own cleaning does
				if err := os.RemoveAll(filepath.Dir(filepath.Join(b.dir, name))); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(t, filepath.Join(b.dir, "checkpoint"), raw)
		copies(t, s.mirror(), b.dir)
		got := s.download("")
		b.verifies(got, 260)
		for name, bytesOf := range want {
			if !bytes.Equal(content(t, filepath.Join(got, name)), bytesOf) {
				t.Errorf("of the log of %d entries, %s is another one", to, name)
			}
		}
	}
}

// A log that is not the one in the bucket is not mixed with it.
func TestALogThatDoesNotContinueTheCopyIsNotCopied(t *testing.T) {
	b := newBook(t).grow(300)
	shorter := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(shorter, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	b.grow(600)
	for name, c := range map[string]struct{ dir, want string }{
		"restored from a backup": {shorter, "has 300 entries, and its copy in bucket audit, checkpoint, has 600 already"},
		"another as long":        {newBook(t).grow(600).dir, "the first 600 entries of the log"},
		"another, longer":        {newBook(t).grow(700).dir, "the first 600 entries of the log"},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", restart), func(t *testing.T) {
				s := newServer(t)
				m := s.mirror()
				copies(t, m, b.dir)
				before := len(s.names())
				if restart {
					m = s.mirror()
				}
				_, err := m.Copy(t.Context(), c.dir)
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "set another prefix") {
					t.Errorf("copied, with %v", err)
				}
				if len(s.names()) != before {
					t.Errorf("wrote %q", s.names()[before:])
				}
			})
		}
	}
}

// What an unfinished copy of another log has left, of the same lengths, is not taken for this one's.
func TestLeftoversOfAnotherLogAreNotTakenForThisOne(t *testing.T) {
	other, b, s := newBook(t).grow(300), newBook(t).grow(300), newServer(t)
	s.set(func(r *http.Request, puts int) *reply {
		if r.Method == http.MethodPut && puts >= 4 {
			return &reply{Status: 403, Code: "AccessDenied"}
		}
		return nil
	}, nil)
	if _, err := s.mirror().Copy(t.Context(), other.dir); err == nil {
		t.Fatal("the copy was not ended")
	}
	s.set(nil, nil)
	copies(t, s.mirror(), b.dir)
	b.verifies(s.download(""), 300)
}

func TestADamagedLogIsNotCopied(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"a hash that the root is made of": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, "tile/0/001.p/44")
			raw := content(t, path)
			raw[40] ^= 1
			write(t, path, raw)
		}, "its tiles give another root"},
		"a file cut short": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, "tile/entries/000")
			write(t, path, content(t, path)[:1000])
		}, "tile/entries/000 is damaged: restore it"},
		"a missing file": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "tile/entries/000")); err != nil {
				t.Fatal(err)
			}
		}, "the log lacks a part"},
		"no checkpoint": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "checkpoint")); err != nil {
				t.Fatal(err)
			}
		}, "there is no log in"},
		"a checkpoint that is none": {func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "checkpoint"), []byte("x\n"))
		}, "checkpoint is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			b, s := newBook(t).grow(300), newServer(t)
			c.damage(t, b.dir)
			if _, err := s.mirror().Copy(t.Context(), b.dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("copied, with %v", err)
			}
			if slices.Contains(s.names(), "checkpoint") {
				t.Error("the checkpoint is in the bucket")
			}
		})
	}
}

func TestFilesBesideAreCopiedOnce(t *testing.T) {
	b, s, top := newBook(t).grow(3), newServer(t), t.TempDir()
	m := s.mirror()
	ranges, stamps := filepath.Join(top, "ranges"), filepath.Join(top, "tsr")
	copies(t, m, b.dir, ranges, stamps) // there are none yet
	files := map[string]string{"ranges/aa": "one", "ranges/bb": "two", "tsr/2026/01": "three"}
	for name, text := range files {
		write(t, filepath.Join(top, name), []byte(text))
	}
	write(t, filepath.Join(top, "ranges/.new-1"), []byte("half"))
	before := len(s.names())
	copies(t, m, b.dir, ranges, stamps)
	if got := slices.Sorted(slices.Values(s.names()[before:])); !slices.Equal(got, slices.Sorted(maps.Keys(files))) {
		t.Errorf("wrote %q", got)
	}
	got := s.download("")
	for name, text := range files {
		if string(content(t, filepath.Join(got, name))) != text {
			t.Errorf("%s is another one", name)
		}
	}
	if done := copies(t, m, b.dir, ranges, stamps); done.Objects != 0 {
		t.Errorf("%d objects were written again", done.Objects)
	}
	if done := copies(t, m, b.grow(4).dir, ranges, stamps); done.Objects != 4 {
		t.Errorf("%d objects were written", done.Objects)
	}
	if _, err := m.Copy(t.Context(), b.dir, filepath.Join(top, "tile")); err == nil {
		t.Error("a folder that has the name of the log's was copied")
	}
}

// A bucket never has a time-stamp over more entries than its checkpoint covers: a stamp of later, one that the end of a copy cuts off.
func TestWhatIsOverEntriesComesAfterTheirCheckpoint(t *testing.T) {
	b, s := newBook(t).grow(3), newServer(t)
	stamps := filepath.Join(t.TempDir(), "tsr")
	name := func(n uint64) string { return fmt.Sprintf("tsr/%020d.reply", n) }
	for _, n := range []uint64{2, 3, 5} {
		write(t, filepath.Join(filepath.Dir(stamps), name(n)), []byte("stamp"))
	}
	m := s.mirror()
	copies(t, m, b.dir, stamps)
	if got := s.names(); !slices.Equal(got[len(got)-3:], []string{"checkpoint", name(2), name(3)}) || len(got) != 6 {
		t.Errorf("wrote %q", got)
	}
	copies(t, m, b.grow(5).dir, stamps)
	if got := s.names(); !slices.Equal(got[len(got)-2:], []string{"checkpoint", name(5)}) {
		t.Errorf("wrote %q", got)
	}
	once(t, s)
}

func TestABusyServerIsAskedAgain(t *testing.T) {
	b, s := newBook(t).grow(3), newServer(t)
	refused := 0
	s.set(func(r *http.Request, _ int) *reply {
		if r.Method == http.MethodPut && refused < 2 {
			refused++
			return &reply{Status: 503, Code: "SlowDown", Message: "Please reduce your request rate."}
		}
		return nil
	}, nil)
	if done := copies(t, s.mirror(), b.dir); done.Objects != 4 || refused != 2 {
		t.Errorf("wrote %d objects after %d refusals", done.Objects, refused)
	}
	b.verifies(s.download(""), 3)
}

func TestErrorsSayWhatToDo(t *testing.T) {
	b := newBook(t).grow(3)
	always := func(status int, code, message string) func(*server) {
		return func(s *server) {
			s.set(func(*http.Request, int) *reply { return &reply{Status: status, Code: code, Message: message} }, nil)
		}
	}
	for name, c := range map[string]struct {
		server  func(*server)
		options func(*mirror.Options)
		want    string // of the error of Check and of Copy
	}{
		"no such bucket": {nil, func(o *mirror.Options) { o.Bucket = "other" }, "bucket other at 127.0.0.1"},
		"what then":      {nil, func(o *mirror.Options) { o.Bucket = "other" }, "create the bucket, with object lock enabled"},
		"no object lock": {(*server).lacksLocks, nil, "create a bucket with object lock enabled"},
		"access denied":  {always(403, "AccessDenied", "Access Denied."), nil, "allow the access key s3:ListBucket"},
		"access key":     {always(403, "InvalidAccessKeyId", "no such key"), nil, "give an access key that the server knows"},
		"secret key":     {always(403, "SignatureDoesNotMatch", "no match"), nil, "give the secret key that belongs to the access key"},
		"clock":          {always(403, "RequestTimeTooSkewed", "too large"), nil, "set the clock of this host"},
		"region":         {always(400, "AuthorizationHeaderMalformed", "expecting 'eu-west-3'"), func(o *mirror.Options) { o.Region = "us-east-1" }, "set the region to that of the bucket"},
		"broken":         {always(500, "InternalError", "We encountered an internal error"), nil, "the next copy goes on from here"},
		"unknown":        {always(418, "Teapot", "short and stout"), nil, "short and stout"},
		"nobody there":   {func(s *server) { s.web.Close() }, nil, "see that the endpoint is right"},
		"no TLS":         {nil, func(o *mirror.Options) { o.Endpoint = strings.TrimPrefix(o.Endpoint, "http://") }, "write http:// before the endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if c.server != nil {
				c.server(s)
			}
			m := s.mirror(func(o *mirror.Options) {
				if c.options != nil {
					c.options(o)
				}
			})
			_, err := m.Copy(t.Context(), b.dir)
			for _, err := range []error{m.Check(t.Context()), err} {
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %q, want %q", err, c.want)
				}
			}
		})
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for name, change := range map[string]func(*mirror.Options){
		"no bucket":         func(o *mirror.Options) { o.Bucket = "" },
		"no endpoint":       func(o *mirror.Options) { o.Endpoint = "" },
		"a path":            func(o *mirror.Options) { o.Endpoint = "https://example.org/s3" },
		"another mode":      func(o *mirror.Options) { o.Mode = "none" },
		"a negative time":   func(o *mirror.Options) { o.Retain = -1 },
		"half of the keys":  func(o *mirror.Options) { o.SecretKey = "" },
		"the other half":    func(o *mirror.Options) { o.AccessKey = "" },
		"a bucket of S3 no": func(o *mirror.Options) { o.Bucket = "a/b" },
	} {
		o := newServer(t).options()
		change(&o)
		if m, err := mirror.New(o); err == nil {
			if err = m.Check(t.Context()); err == nil {
				t.Errorf("%s: is taken", name)
			}
		}
	}
}

func TestKeysComeFromTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	s := newServer(t)
	s.set(func(r *http.Request, _ int) *reply {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=from-the-environment/") {
			return &reply{Status: 403, Code: "AccessDenied"}
		}
		return nil
	}, nil)
	m := s.mirror(func(o *mirror.Options) { o.AccessKey, o.SecretKey = "", "" })
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheServersCertificateIsVerified(t *testing.T) {
	b, s := newBook(t).grow(300), newServer(t)
	secure := httptest.NewUnstartedServer(s.handler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	at := func(o *mirror.Options) { o.Endpoint = secure.URL }
	if err := s.mirror(at).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "give the certificate of the authority") {
		t.Errorf("error %v", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	m := s.mirror(at, func(o *mirror.Options) { o.CA = pool })
	if err := m.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	copies(t, m, b.dir)
	b.verifies(s.download(""), 300)
	for _, p := range s.taken() {
		if p.header.Get("Content-Md5") == "" {
			t.Errorf("%s was put without a checksum", p.name)
		}
	}
}

// A copy that is ended says so, and blames nothing else.
func TestAnEndedCopyIsTold(t *testing.T) {
	b, s := newBook(t).grow(3), newServer(t)
	ctx, end := context.WithCancel(t.Context())
	end()
	if _, err := s.mirror().Copy(ctx, b.dir); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "endpoint is right") {
		t.Errorf("error %v", err)
	}
	if _, err := s.mirror().Copy(t.Context(), t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

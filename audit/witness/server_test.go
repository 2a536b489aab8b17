package witness_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/lockstep-cdc/lockstep/audit/witness"
)

const origin = "example.org/log"

// history is a log, by another implementation of the tree.
type history struct {
	t      testing.TB
	signer note.Signer
	public string
	hashes []tlog.Hash
	size   int64
}

func newHistory(t testing.TB, name string) *history {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	h := &history{t: t, public: public}
	h.signer = h.must(note.NewSigner(private)).(note.Signer)
	return h
}

func (h *history) must(v any, err error) any {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// with returns a history that goes on with entries.
func (h *history) with(entries ...string) *history {
	h.t.Helper()
	next := *h
	next.hashes = append([]tlog.Hash(nil), h.hashes...)
	for _, e := range entries {
		next.hashes = append(next.hashes, h.must(tlog.StoredHashes(next.size, []byte(e), next.reader())).([]tlog.Hash)...)
		next.size++
	}
	return &next
}

func (h *history) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(at []int64) (list []tlog.Hash, err error) {
		for _, i := range at {
			list = append(list, h.hashes[i])
		}
		return list, nil
	})
}

func (h *history) checkpoint() []byte {
	h.t.Helper()
	root := h.must(tlog.TreeHash(h.size, h.reader())).(tlog.Hash)
	if h.size == 0 {
		root = tlog.Hash(h.must(base64.StdEncoding.DecodeString("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")).([]byte)) // of nothing
	}
	return h.must(note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", h.signer.Name(), h.size, root)}, h.signer)).([]byte)
}

// request asks to cosign the history by one who knows of old entries.
func (h *history) request(old int64) []byte {
	h.t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", old)
	if old > 0 && old < h.size {
		for _, hash := range h.must(tlog.ProveTree(h.size, old, h.reader())).(tlog.TreeProof) {
			fmt.Fprintln(&b, hash)
		}
	}
	b.WriteString("\n")
	b.Write(h.checkpoint())
	return b.Bytes()
}

// stand is a witness that listens.
type stand struct {
	t   testing.TB
	dir string
	*witness.Server
	http *httptest.Server
}

func newStand(t testing.TB, keys ...string) *stand {
	s := &stand{t: t, dir: filepath.Join(t.TempDir(), "w")}
	s.open(keys...)
	t.Cleanup(s.close)
	return s
}

func (s *stand) open(keys ...string) {
	s.t.Helper()
	w, err := witness.Open(s.dir, "example.org/witness", keys, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.Server, s.http = w, httptest.NewServer(w)
}

func (s *stand) close() {
	s.http.Close()
	if err := s.Server.Close(); err != nil {
		s.t.Error(err)
	}
}

func (s *stand) post(body []byte) (int, string, http.Header) {
	s.t.Helper()
	r, err := http.Post(s.http.URL+"/add-checkpoint", "", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(text), r.Header
}

// cosigns has the witness cosign.
func (s *stand) cosigns(h *history, old int64) {
	s.t.Helper()
	code, text, _ := s.post(h.request(old))
	if code != http.StatusOK {
		s.t.Fatalf("%d to %d: status %d: %s", old, h.size, code, text)
	}
	key, err := witness.ParseKey(s.PublicKey())
	if err != nil {
		s.t.Fatal(err)
	}
	at, err := key.Verify(append(h.checkpoint(), text...))
	if err != nil || time.Since(at).Abs() > time.Minute {
		s.t.Fatalf("cosigned at %v: %v", at, err)
	}
}

// Status codes are those of https://c2sp.org/tlog-witness.
func TestEveryAnswerIsThatOfTheProtocol(t *testing.T) {
	start := newHistory(t, origin)
	seven := start.with("a", "b", "c", "d", "e", "f", "g")
	nine := seven.with("h", "i")
	fork := start.with("a", "b", "x", "d", "e", "f", "g")
	stranger, forger := newHistory(t, "example.org/other").with("a"), newHistory(t, origin).with("a")
	s := newStand(t, start.public)
	s.cosigns(start, 0)
	s.cosigns(seven, 0)
	s.cosigns(seven, 7)
	replace := func(body []byte, old, text string) []byte { return bytes.Replace(body, []byte(old), []byte(text), 1) }
	for name, c := range map[string]struct {
		body []byte
		code int
		text string
	}{
		"another size than the last":        {nine.request(5), http.StatusConflict, "7\n"},
		"as if nothing was cosigned":        {nine.request(0), http.StatusConflict, "7\n"},
		"the log was put back":              {start.with("a", "b").request(2), http.StatusConflict, "7\n"},
		"an old size beyond the checkpoint": {seven.request(8), http.StatusBadRequest, "more than"},
		"another history of the same size":  {fork.request(7), http.StatusConflict, "forked"},
		"another history that is longer":    {fork.with("h", "i").request(7), http.StatusUnprocessableEntity, "does not continue"},
		"a proof that is of others":         {append([]byte("old 7\n"+strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 3)+"\n"), nine.checkpoint()...), http.StatusUnprocessableEntity, "does not continue"},
		"no proof":                          {append([]byte("old 7\n\n"), nine.checkpoint()...), http.StatusUnprocessableEntity, "does not continue"},
		"a proof that is too long":          {replace(nine.request(7), "old 7\n", "old 7\n"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"), http.StatusUnprocessableEntity, "does not continue"},
		"a log that is not of this witness": {stranger.request(0), http.StatusNotFound, "no log"},
		"another key":                       {forger.request(0), http.StatusForbidden, "not signed"},
		"no signature":                      {append([]byte("old 7\n\n"), bytes.SplitAfter(nine.checkpoint(), []byte("\n\n"))[0]...), http.StatusForbidden, "not signed"},
		"a root that was changed":           {replace(nine.request(7), "\n9\n", "\n8\n"), http.StatusForbidden, "not signed"},
		"nothing":                           {nil, http.StatusBadRequest, "no request"},
		"no empty line":                     {[]byte("old 7"), http.StatusBadRequest, "no request"},
		"no old size":                       {replace(nine.request(7), "old 7", "new 7"), http.StatusBadRequest, "no request"},
		"an old size that is no number":     {replace(nine.request(7), "old 7", "old x"), http.StatusBadRequest, "no number"},
		"an old size below nothing":         {replace(nine.request(7), "old 7", "old -1"), http.StatusBadRequest, "no number"},
		"a hash that is none":               {replace(nine.request(7), "old 7\n", "old 7\nAAAA\n"), http.StatusBadRequest, "no hash"},
		"64 hashes":                         {replace(nine.request(7), "old 7\n", "old 7\n"+strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 64)), http.StatusBadRequest, "no request"},
		"more than a request can be":        {append(nine.request(7), make([]byte, 1<<20)...), http.StatusBadRequest, "too large"},
	} {
		code, text, header := s.post(c.body)
		if code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s: status %d, %q", name, code, text)
		}
		if is, want := header.Get("Content-Type") == "text/x.tlog.size", text == "7\n"; is != want {
			t.Errorf("%s: Content-Type %s of %q", name, header.Get("Content-Type"), text)
		}
	}
	if r, err := http.Get(s.http.URL + "/add-checkpoint"); err != nil || r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v, %v", r, err)
	}
	s.cosigns(nine, 7) // none of these has changed anything
	first := newStand(t, start.public)
	if code, text, _ := first.post(replace(seven.request(0), "old 0\n", "old 0\n"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n")); code != http.StatusUnprocessableEntity {
		t.Errorf("a proof from nothing: status %d, %q", code, text)
	}
}

func TestAWitnessRemembersWhatItHasCosigned(t *testing.T) {
	start := newHistory(t, origin)
	three := start.with("a", "b", "c")
	s := newStand(t, start.public)
	public := s.PublicKey()
	s.cosigns(three, 0)
	s.close()
	s.open(start.public)
	if s.PublicKey() != public {
		t.Errorf("its key was %s and is %s", public, s.PublicKey())
	}
	if code, text, _ := s.post(start.with("x").request(0)); code != http.StatusConflict || text != "3\n" {
		t.Errorf("a log that begins anew: status %d, %q", code, text)
	}
	s.cosigns(three.with("d"), 3)
	if _, err := witness.Open(s.dir, "", []string{start.public}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another one runs") {
		t.Errorf("a second one in the same folder: %v", err)
	}
	if info, err := os.Stat(filepath.Join(s.dir, "witness.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its key can be read by others: %v, %v", info, err)
	}
}

// To begin anew would be to forget.
func TestAWitnessWhoseFilesAreDamagedDoesNotStart(t *testing.T) {
	start := newHistory(t, origin)
	for name, damage := range map[string]func(path string) bool{
		"a checkpoint": func(path string) bool { return strings.HasSuffix(path, ".checkpoint") && write(t, path, "x") },
		"another log's checkpoint": func(path string) bool {
			return strings.HasSuffix(path, ".checkpoint") && write(t, path, string(newHistory(t, "example.org/other").checkpoint()))
		},
		"the key":              func(path string) bool { return strings.HasSuffix(path, ".key") && write(t, path, "x") },
		"the key's other half": func(path string) bool { return strings.HasSuffix(path, ".vkey") && write(t, path, "x") },
		"no key":               func(path string) bool { return strings.HasSuffix(path, ".key") && os.Remove(path) == nil },
		"no other half":        func(path string) bool { return strings.HasSuffix(path, ".vkey") && os.Remove(path) == nil },
		"another's other half": func(path string) bool {
			return strings.HasSuffix(path, ".vkey") && write(t, path, newStand(t, start.public).PublicKey())
		},
	} {
		s := newStand(t, start.public)
		s.cosigns(start.with("a"), 0)
		files, err := filepath.Glob(filepath.Join(s.dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		for _, path := range files {
			if damage(path) {
				done++
			}
		}
		s.http.Close()
		if err := s.Server.Close(); err != nil {
			t.Fatal(err)
		}
		w, err := witness.Open(s.dir, "example.org/witness", []string{start.public}, slog.New(slog.DiscardHandler))
		if done != 1 || err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("%s (%d files): %v", name, done, err)
		}
		if w != nil && err == nil {
			t.Error(w.Close())
		}
		s.dir = t.TempDir()
		s.open(start.public) // for the cleanup
	}
}

func write(t *testing.T, path, text string) bool {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestWhatAWitnessIsStartedWithIsChecked(t *testing.T) {
	if _, err := witness.Open(t.TempDir(), "", []string{newHistory(t, origin).public}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "it has no name yet") {
		t.Errorf("no name: %v", err)
	}
	s := newStand(t, newHistory(t, origin).public)
	s.http.Close()
	if err := s.Server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Open(s.dir, "example.org/other", []string{newHistory(t, origin).public}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "is example.org/witness: start it by that name") {
		t.Errorf("another name: %v", err)
	}
	s.open()
	if _, err := witness.Open(t.TempDir(), "w", []string{"x"}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "lockstep audit key") {
		t.Errorf("no key of a log: %v", err)
	}
	if _, err := witness.ParseKey(newHistory(t, origin).public); err == nil || !strings.Contains(err.Error(), "no key of a witness") {
		t.Errorf("a key that is not for cosignatures: %v", err)
	}
}

// Of many who ask at once, each with another history, one is cosigned.
func TestOfManyHistoriesOneIsCosigned(t *testing.T) {
	start := newHistory(t, origin)
	common := start.with("a", "b", "c", "d", "e")
	s := newStand(t, start.public)
	s.cosigns(common, 0)
	codes := make([]int, 20)
	var asking sync.WaitGroup
	for i := range codes {
		asking.Go(func() { codes[i], _, _ = s.post(common.with(fmt.Sprint(i), "z").request(5)) })
	}
	asking.Wait()
	count := map[int]int{}
	for _, c := range codes {
		count[c]++
	}
	if count[http.StatusOK] != 1 || count[http.StatusConflict] != len(codes)-1 {
		t.Errorf("answers by status: %v", count)
	}
}

func TestAKeyThatWasRotatedIsOfTheSameLog(t *testing.T) {
	old, next := newHistory(t, origin), newHistory(t, origin)
	s := newStand(t, old.public, next.public)
	s.cosigns(old.with("a", "b"), 0)
	s.cosigns(next.with("a", "b", "c"), 2)
	if code, _, _ := s.post(next.with("x", "y", "z").request(3)); code != http.StatusConflict {
		t.Errorf("another history by the new key: status %d", code)
	}
}

// A client that is not ours: that of tessera.
func TestALogOfOthersIsCosigned(t *testing.T) {
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	s := newStand(t, public)
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	driver, err := posix.New(t.Context(), posix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	address, err := http.NewRequest(http.MethodPost, s.http.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := tessera.NewWitness(s.PublicKey(), address.URL)
	if err != nil {
		t.Fatal(err)
	}
	options := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithCheckpointInterval(100*time.Millisecond).
		WithBatching(10, 5*time.Millisecond).WithWitnesses(tessera.NewWitnessGroup(1, w), nil)
	appender, shutdown, _, err := tessera.NewAppender(t.Context(), driver, options)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if _, err := appender.Add(t.Context(), tessera.NewEntry([]byte(fmt.Sprint(i))))(); err != nil {
			t.Fatal(err)
		}
	}
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkpoint, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := witness.ParseKey(s.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Verify(checkpoint); err != nil || !bytes.HasPrefix(checkpoint, []byte(origin+"\n300\n")) {
		t.Errorf("the checkpoint is %s: %v", checkpoint, err)
	}
}

func FuzzRequest(f *testing.F) {
	start := newHistory(f, origin)
	s := newStand(f, start.public)
	two := start.with("a", "b")
	s.cosigns(two, 0)
	for _, seed := range [][]byte{two.request(2), two.with("c").request(2), start.request(0), []byte("old 2\n\n"), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRecorder()
		s.ServeHTTP(r, httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(body)))
		if r.Code >= http.StatusInternalServerError {
			t.Errorf("status %d: %s", r.Code, r.Body)
		}
	})
}

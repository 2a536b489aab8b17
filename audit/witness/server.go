package witness

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/transparency-dev/formats/log"
	cosignatures "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"github.com/lockstep-cdc/lockstep/audit/durable"
)

// Server cosigns checkpoints: who holds a log's key cannot show two histories that both are cosigned. It belongs on another
// host, in other hands.
type Server struct {
	dir    string
	signer note.Signer
	key    *Key
	public string                     // the key's text
	logs   map[string][]note.Verifier // by origin; more than one if a key was rotated
	logger *slog.Logger
	lock   *os.File

	mu   sync.Mutex
	last map[string]*log.Checkpoint // by origin
}

// The files of a witness's folder, beside a checkpoint for each log.
const (
	keyFile = "witness.key"  // signs
	pubFile = "witness.vkey" // verifies
	lastOf  = ".checkpoint"
)

// maxRequest bounds a request, in bytes: 63 hashes and a checkpoint with signatures.
const maxRequest = 64 << 10

// sizeType is of an answer that is the size of the last checkpoint.
const sizeType = "text/x.tlog.size"

// Open opens the witness whose state is in dir. At the first start it makes its key, for which it needs a name. Logs
// are the verifier keys of those that it may cosign for.
func Open(dir, name string, logs []string, logger *slog.Logger) (*Server, error) {
	w := &Server{dir: dir, logs: make(map[string][]note.Verifier), last: make(map[string]*log.Checkpoint), logger: logger}
	for _, key := range logs {
		v, err := note.NewVerifier(strings.TrimSpace(key))
		if err != nil {
			return nil, fmt.Errorf("witness: the key of a log is none: give what lockstep audit key prints there: %w", err)
		}
		w.logs[v.Name()] = append(w.logs[v.Name()], v)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	var err error
	if w.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if err := unix.Flock(int(w.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("witness: another one runs in %s: %w", dir, err), w.lock.Close())
	}
	if err = w.loadKey(name); err == nil {
		err = w.load()
	}
	if err != nil {
		return nil, errors.Join(err, w.lock.Close())
	}
	return w, nil
}

// loadKey reads the key, and makes one at the first start: Ed25519, of which the public half is for cosignatures.
func (w *Server) loadKey(name string) error {
	path := filepath.Join(w.dir, keyFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := w.makeKey(path, name); err != nil {
			return fmt.Errorf("witness: make its key: %w", err)
		}
	}
	private, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	public, err := os.ReadFile(filepath.Join(w.dir, pubFile))
	if err != nil {
		return fmt.Errorf("witness: the public half of its key: %w: restore it from a backup", err)
	}
	signer, err := cosignatures.NewSignerForCosignatureV1(strings.TrimSpace(string(private)))
	if err == nil {
		w.key, err = ParseKey(string(public))
	}
	if err == nil && w.key.verifier.KeyHash() != signer.KeyHash() {
		err = fmt.Errorf("%s is not its public half", pubFile)
	}
	if err != nil {
		return fmt.Errorf("witness: its key %s is damaged: restore it from a backup: %w", path, err)
	}
	if name != "" && name != signer.Name() {
		return fmt.Errorf("witness: the one in %s is %s: start it by that name, or %s in a folder of its own", w.dir, signer.Name(), name)
	}
	w.signer, w.public = signer, strings.TrimSpace(string(public))
	return nil
}

func (w *Server) makeKey(path, name string) error {
	if name == "" {
		return errors.New("it has no name yet")
	}
	if cosigned, err := filepath.Glob(filepath.Join(w.dir, "*"+lastOf)); err != nil || len(cosigned) > 0 {
		return errors.Join(fmt.Errorf("it had one, by which it has cosigned %s: restore it from a backup", cosigned), err)
	}
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err == nil {
		public, err = cosignatures.VKeyToCosignatureV1(public)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(w.dir, pubFile), []byte(public+"\n"), 0o644)
	}
	if err != nil {
		return err
	}
	return durable.WriteFile(path, []byte(private+"\n"), 0o600)
}

// load reads what was cosigned last. What is damaged is no reason to begin anew: that would be to forget.
func (w *Server) load() error {
	for origin := range w.logs {
		raw, err := os.ReadFile(w.path(origin))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var c log.Checkpoint
		if err == nil {
			_, err = c.Unmarshal(raw)
		}
		if err == nil && c.Origin != origin {
			err = fmt.Errorf("it is of %s", c.Origin)
		}
		if err != nil {
			return fmt.Errorf("witness: %s, the last checkpoint of %s, is damaged: restore it from a backup: %w", w.path(origin), origin, err)
		}
		w.last[origin] = &c
	}
	return nil
}

func (w *Server) path(origin string) string {
	return filepath.Join(w.dir, fmt.Sprintf("%x%s", sha256.Sum256([]byte(origin)), lastOf))
}

// PublicKey is what logs and auditors know the witness by.
func (w *Server) PublicKey() string { return w.public }

// Close lets another one run in its folder.
func (w *Server) Close() error { return w.lock.Close() }

// refusal is an answer other than a cosignature.
type refusal struct {
	code int
	text string
	size bool // text is the size of the last checkpoint
}

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// ServeHTTP implements [http.Handler].
func (w *Server) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/healthz":
		fmt.Fprintln(to, "The witness is healthy.")
	case r.URL.Path != "/add-checkpoint":
		http.NotFound(to, r)
	case r.Method != http.MethodPost:
		to.Header().Set("Allow", http.MethodPost)
		http.Error(to, "use POST", http.StatusMethodNotAllowed)
	default:
		body, err := io.ReadAll(http.MaxBytesReader(to, r.Body, maxRequest))
		if err != nil {
			http.Error(to, err.Error(), http.StatusBadRequest)
			return
		}
		cosignature, refused := w.add(body)
		switch {
		case refused == nil:
			if _, err := to.Write(cosignature); err != nil {
				w.logger.Debug("answer was not sent", "err", err.Error())
			}
		case refused.size:
			to.Header().Set("Content-Type", sizeType)
			to.WriteHeader(refused.code)
			fmt.Fprintln(to, refused.text)
		default:
			w.logger.Warn("a checkpoint was not cosigned", "reason", refused.text, "status", refused.code)
			http.Error(to, refused.text, refused.code)
		}
	}
}

// add cosigns a checkpoint if it continues the last one.
func (w *Server) add(body []byte) ([]byte, *refusal) {
	old, hashes, raw, err := parseRequest(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	origin, _, _ := strings.Cut(string(raw), "\n")
	if len(w.logs[origin]) == 0 {
		return nil, refuse(http.StatusNotFound, "%q is no log of this witness", origin)
	}
	var at *log.Checkpoint
	var signed *note.Note
	for _, v := range w.logs[origin] {
		if at, _, signed, err = log.ParseCheckpoint(raw, origin, v); err == nil {
			break
		}
	}
	if err != nil {
		return nil, refuse(http.StatusForbidden, "the checkpoint is not signed by %s", origin)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if refused := w.continues(origin, at, old, hashes); refused != nil {
		return nil, refused
	}
	cosigned, err := note.Sign(&note.Note{Text: signed.Text}, w.signer)
	if err == nil { // what is signed is remembered before anybody learns of it
		err = durable.WriteFile(w.path(origin), raw, 0o600)
	}
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, "%v", err)
	}
	w.last[origin] = at
	_, cosignature, _ := bytes.Cut(cosigned, []byte("\n\n"))
	return cosignature, nil
}

// continues checks that a checkpoint is over the same entries as the last one, and more.
func (w *Server) continues(origin string, at *log.Checkpoint, old uint64, hashes [][]byte) *refusal {
	last := w.last[origin]
	if last == nil {
		last = &log.Checkpoint{Hash: rfc6962.DefaultHasher.EmptyRoot()}
	}
	switch {
	case old > at.Size:
		return refuse(http.StatusBadRequest, "the old size, %d, is more than that of the checkpoint, %d", old, at.Size)
	case old != last.Size:
		return &refusal{http.StatusConflict, strconv.FormatUint(last.Size, 10), true}
	case at.Size == last.Size && !bytes.Equal(at.Hash, last.Hash):
		w.logger.Error("a log shows two histories", "origin", origin, "size", at.Size)
		return refuse(http.StatusConflict, "another checkpoint of %d entries was cosigned: the log has forked", at.Size)
	case old == 0 && len(hashes) > 0:
		return refuse(http.StatusUnprocessableEntity, "there is nothing to prove for the first checkpoint")
	case old == 0:
		return nil
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, old, at.Size, hashes, last.Hash, at.Hash); err != nil {
		w.logger.Error("a log does not continue what was cosigned", "origin", origin, "from", old, "to", at.Size)
		return refuse(http.StatusUnprocessableEntity, "the checkpoint does not continue the one of %d entries: %v", old, err)
	}
	return nil
}

// parseRequest reads a request: the line "old N", hashes of the proof, an empty line, the checkpoint.
func parseRequest(body []byte) (old uint64, hashes [][]byte, checkpoint []byte, err error) {
	head, checkpoint, found := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	size, is := strings.CutPrefix(lines[0], "old ")
	if !found || !is || len(lines) > 64 {
		return 0, nil, nil, errors.New("that is no request to add a checkpoint")
	}
	if old, err = strconv.ParseUint(size, 10, 63); err != nil {
		return 0, nil, nil, errors.New("the old size is no number")
	}
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(h) != rfc6962.DefaultHasher.Size() {
			return 0, nil, nil, errors.New("a line of the proof is no hash")
		}
		hashes = append(hashes, h)
	}
	return old, hashes, checkpoint, nil
}

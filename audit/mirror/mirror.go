// Package mirror copies an audit log to an S3 bucket whose objects are locked, so that not even an administrator of the
// database, or of lockstep's host, can take it away before its time.
package mirror

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/transparency-dev/tessera/api/layout"
)

// Options say where copies go. The access key needs s3:ListBucket, s3:GetObject and s3:PutObject and, to lock,
// s3:PutObjectRetention and s3:GetBucketObjectLockConfiguration. It should have no more: nothing is ever deleted.
type Options struct {
	Endpoint string // host:port or URL; https unless it begins with http://
	Bucket   string
	Prefix   string // before the names of all objects; a log needs one of its own
	Region   string // empty: the server is asked for it
	// AccessKey and SecretKey, both empty: those of the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or
	// MINIO_ACCESS_KEY and MINIO_SECRET_KEY), or of the instance's role.
	AccessKey, SecretKey string
	// Retain is for how long each object is locked, from when it is copied on, by the clock of this host; 0: not at all.
	Retain time.Duration
	// Mode is compliance, which nobody can undo, or governance, which a privilege of its own can; empty: compliance.
	Mode string
	CA   *x509.CertPool // that the server's certificate is verified by; nil: the system's
}

// Mirror copies one log. It may be used by several goroutines; they copy one after the other.
type Mirror struct {
	options   Options
	mode      minio.RetentionMode
	host      string // endpoint, for errors
	client    minio.Core
	transport *http.Transport

	mu    sync.Mutex
	there map[string]object // what is known to be in the bucket; nil: it must be listed first
	last  state             // that the bucket has a checkpoint of
}

// object is what a listing tells.
type object struct {
	size int64 // bytes
	etag string
}

// Done is what a copy has done.
type Done struct {
	Size    uint64 // entries that the copied checkpoint covers
	Objects int    // that were written
}

const (
	attempts   = 4       // at a request that fails for a reason that may pass, within some seconds
	maxRead    = 1 << 20 // bytes of a checkpoint
	checkpoint = layout.CheckpointPath
	olderDir   = "checkpoints"
	tilesDir   = "tile"
)

// New returns a mirror. It does not connect to the server: Check does.
func New(o Options) (*Mirror, error) {
	m := &Mirror{options: o}
	m.options.Prefix = strings.Trim(o.Prefix, "/")
	switch strings.ToLower(o.Mode) {
	case "", "compliance":
		m.mode = minio.Compliance
	case "governance":
		m.mode = minio.Governance
	default:
		return nil, fmt.Errorf("audit mirror: mode %q is none: give compliance or governance", o.Mode)
	}
	switch {
	case o.Bucket == "":
		return nil, errors.New("audit mirror: no bucket is given")
	case o.Retain < 0:
		return nil, fmt.Errorf("audit mirror: objects cannot be retained for %v: give a time, or 0 for no lock", o.Retain)
	case (o.AccessKey == "") != (o.SecretKey == ""):
		return nil, errors.New("audit mirror: of access key and secret key only one is given: give both or none")
	}
	host, plain := strings.CutPrefix(o.Endpoint, "http://")
	m.host = strings.TrimSuffix(strings.TrimPrefix(host, "https://"), "/")
	transport, err := minio.DefaultTransport(!plain)
	if err != nil {
		return nil, fmt.Errorf("audit mirror: %w", err)
	}
	if o.CA != nil && !plain {
		transport.TLSClientConfig.RootCAs = o.CA
	}
	m.transport = transport
	m.client.Client, err = minio.New(m.host, &minio.Options{
		Creds: keys(o), Secure: !plain, Region: o.Region, Transport: transport, MaxRetries: attempts,
	})
	if err != nil {
		return nil, fmt.Errorf("audit mirror: endpoint %q: give host:port or a URL without a path: %w", o.Endpoint, err)
	}
	return m, nil
}

func keys(o Options) *credentials.Credentials {
	if o.AccessKey != "" {
		return credentials.NewStaticV4(o.AccessKey, o.SecretKey, "")
	}
	role := &http.Client{Timeout: 10 * time.Second} // where there is no instance's role, nothing may answer
	return credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.IAM{Client: role}})
}

// Check asks whether the bucket is there and may be read and, where objects are to be locked, whether it has Object Lock. Its
// error says what to do. Whether objects may be written only Copy finds out, since what is written stays.
func (m *Mirror) Check(ctx context.Context) error {
	defer m.transport.CloseIdleConnections()
	for o := range m.client.ListObjectsIter(ctx, m.options.Bucket, minio.ListObjectsOptions{Prefix: m.name(""), Recursive: true, MaxKeys: 1}) {
		if o.Err != nil {
			return m.fault("list it", o.Err)
		}
		break
	}
	if m.options.Retain == 0 {
		return nil
	}
	enabled, _, _, _, err := m.client.GetObjectLockConfig(ctx, m.options.Bucket)
	if err == nil && enabled != "Enabled" {
		err = minio.ErrorResponse{Code: noLock, Message: "object lock is not enabled"}
	}
	if err != nil {
		return m.fault("ask for its object lock", err)
	}
	return nil
}

// Copy brings to the bucket what the log in dir (https://c2sp.org/tlog-tiles) has as of its present checkpoint and the bucket
// has not, the checkpoint last: what is in the bucket is a whole log at any time. A copy of each checkpoint goes to
// checkpoints/<size, 20 digits>. The folders beside hold files that never change; each goes to the bucket under its own name.
// Names that begin with a dot are not copied. A name of 20 digits is that of something over so many entries, and comes to the
// bucket after the checkpoint of as many.
//
// A log that does not continue the one in the bucket is not copied. What was written before an error is not written again.
func (m *Mirror) Copy(ctx context.Context, dir string, beside ...string) (Done, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.transport.CloseIdleConnections()
	var done Done
	err := m.copy(ctx, folder(dir), beside, &done)
	if err != nil {
		m.there, m.last = nil, state{} // what an attempt that failed has left is not known
	}
	return done, err
}

func (m *Mirror) copy(ctx context.Context, log folder, beside []string, done *Done) error {
	now, err := log.state() // the log goes on to grow; all is copied as of this
	if err != nil {
		return err
	}
	learnt := m.there == nil
	if learnt {
		if err := m.learn(ctx); err != nil {
			return err
		}
	}
	if err := m.follows(ctx, log, now); err != nil {
		return err
	}
	if err := m.copyBeside(ctx, beside, m.last.size, done); err != nil {
		return err
	}
	for p := range pieces(now.size) {
		if p.of(m.last.size) && (!learnt || m.lists(log, p)) {
			continue
		}
		content, err := log.read(p)
		if err != nil {
			return err
		}
		if err := m.put(ctx, p.name(), content, done); err != nil {
			return err
		}
	}
	if err := m.copyCheckpoint(ctx, now, done); err != nil {
		return err
	}
	if err := m.copyBeside(ctx, beside, now.size, done); err != nil {
		return err
	}
	m.last, done.Size = now, now.size
	maps.DeleteFunc(m.there, func(name string, _ object) bool { // which the last checkpoint tells from now on
		top, _, _ := strings.Cut(name, "/")
		return top == tilesDir || top == olderDir
	})
	return nil
}

// learn lists what is in the bucket and reads its checkpoint.
func (m *Mirror) learn(ctx context.Context) error {
	there := make(map[string]object)
	for o := range m.client.ListObjectsIter(ctx, m.options.Bucket, minio.ListObjectsOptions{Prefix: m.name(""), Recursive: true}) {
		if o.Err != nil {
			return m.fault("list it", o.Err)
		}
		there[strings.TrimPrefix(o.Key, m.name(""))] = object{o.Size, strings.Trim(o.ETag, `"`)}
	}
	m.last = state{}
	if _, ok := there[checkpoint]; ok {
		raw, err := m.get(ctx, checkpoint)
		if err != nil {
			return m.fault("get "+m.name(checkpoint), err)
		}
		if m.last, err = parse(raw); err != nil {
			return fmt.Errorf("audit mirror: bucket %s at %s: %s is damaged: %w: set another prefix, and keep this one", m.options.Bucket, m.host, m.name(checkpoint), err)
		}
	}
	m.there = there
	return nil
}

func (m *Mirror) get(ctx context.Context, name string) ([]byte, error) {
	body, _, _, err := m.client.GetObject(ctx, m.options.Bucket, m.name(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(body, maxRead))
	return raw, errors.Join(err, body.Close())
}

// follows checks by the hashes in its tiles that the log is the one that its checkpoint tells, and continues that in the bucket.
func (m *Mirror) follows(ctx context.Context, log folder, now state) error {
	if now.size < m.last.size {
		return fmt.Errorf("audit mirror: the log in %s has %d entries, and its copy in bucket %s, %s, has %d already: it was cut short, or another one began: %s",
			log, now.size, m.options.Bucket, m.name(checkpoint), m.last.size, anotherPrefix)
	}
	for _, at := range []state{now, m.last} {
		root, err := log.root(ctx, at.size)
		switch {
		case err != nil:
			return err
		case at.size == 0 || bytes.Equal(root, at.root):
		case at.size == now.size && bytes.Equal(at.root, now.root):
			return fmt.Errorf("audit mirror: the log in %s is damaged: its tiles give another root than its checkpoint of %d entries: see lockstep audit verify", log, at.size)
		default:
			return fmt.Errorf("audit mirror: the first %d entries of the log in %s are other ones than in its copy in bucket %s, %s: %s",
				at.size, log, m.options.Bucket, m.name(checkpoint), anotherPrefix)
		}
	}
	return nil
}

const anotherPrefix = "set another prefix to copy it all the same, and keep the copy"

// lists reports whether a piece is in the bucket in its full length. It is not read for that.
func (m *Mirror) lists(log folder, p piece) bool {
	o, ok := m.there[p.name()]
	return ok && o.size == log.length(p)
}

// copyBeside copies the files below folders that are not over more entries than the bucket has.
func (m *Mirror) copyBeside(ctx context.Context, folders []string, size uint64, done *Done) error {
	for _, dir := range folders {
		if err := m.copyFolder(ctx, dir, size, done); err != nil {
			return err
		}
	}
	return nil
}

// copyFolder copies the files below a folder. One that is missing has none yet.
func (m *Mirror) copyFolder(ctx context.Context, dir string, size uint64, done *Done) error {
	top := filepath.Base(dir)
	if slices.Contains([]string{checkpoint, olderDir, tilesDir}, top) {
		return fmt.Errorf("audit mirror: folder %s has the name of a part of the log", dir)
	}
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("audit mirror: %w", err)
		case strings.HasPrefix(entry.Name(), ".") && entry.IsDir() && file != dir:
			return fs.SkipDir
		case strings.HasPrefix(entry.Name(), ".") || !entry.Type().IsRegular() || over(entry.Name()) > size:
			return nil
		}
		below, err := filepath.Rel(dir, file)
		if err != nil {
			return fmt.Errorf("audit mirror: %w", err)
		}
		return m.copyFile(ctx, path.Join(top, filepath.ToSlash(below)), file, entry, done)
	})
}

// over is how many entries something is over by its name; 0: it does not say.
func over(name string) uint64 {
	digits, _, _ := strings.Cut(name, ".")
	if len(digits) != 20 {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (m *Mirror) copyFile(ctx context.Context, name, file string, entry fs.DirEntry, done *Done) error {
	info, err := entry.Info()
	if o, ok := m.there[name]; err == nil && ok && o.size == info.Size() {
		return nil
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(file)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // its time was over since it was listed
		return nil
	case err != nil:
		return fmt.Errorf("audit mirror: %w", err)
	}
	return m.put(ctx, name, content, done)
}

func (m *Mirror) copyCheckpoint(ctx context.Context, now state, done *Done) error {
	if bytes.Equal(now.checkpoint, m.last.checkpoint) {
		return nil
	}
	if now.size != m.last.size || m.last.checkpoint == nil {
		if err := m.put(ctx, fmt.Sprintf("%s/%020d", olderDir, now.size), now.checkpoint, done); err != nil {
			return err
		}
	}
	return m.put(ctx, checkpoint, now.checkpoint, done)
}

// put writes an object, unless the listing has one of this length and MD5. The latter is its ETag, unless the server
// encrypts with keys of others: then it is written once more.
func (m *Mirror) put(ctx context.Context, name string, content []byte, done *Done) error {
	o := object{int64(len(content)), md5Of(content)}
	if m.there[name] == o {
		return nil
	}
	// An object with a lock must come with a checksum: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
	options := minio.PutObjectOptions{SendContentMd5: true, DisableMultipart: true}
	if m.options.Retain > 0 {
		options.Mode = m.mode
		options.RetainUntilDate = time.Now().Add(m.options.Retain + time.Second - 1).Truncate(time.Second) // of which the header has whole ones
	}
	if _, err := m.client.Client.PutObject(ctx, m.options.Bucket, m.name(name), bytes.NewReader(content), o.size, options); err != nil {
		return m.fault("put "+m.name(name), err)
	}
	m.there[name] = o
	done.Objects++
	return nil
}

// name is that of an object in the bucket; of the empty name, what all begin with.
func (m *Mirror) name(of string) string {
	if m.options.Prefix == "" {
		return of
	}
	return m.options.Prefix + "/" + of
}

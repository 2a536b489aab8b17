package dbtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// newCluster fills data with a fresh cluster. initdb takes most of a second, so that its result is kept in the cache folder
// and copied; each copy gets a system identifier of its own, as two servers that initdb made would have.
func newCluster(ctx context.Context, install Install, who *account, data string, o Options) error {
	version, err := versionOf(filepath.Join(install.Bin, "postgres"))
	if err != nil {
		return err
	}
	kept, err := template([]byte(version+install.Bin), who, func(data string) error {
		return initdb(ctx, install, who, data)
	})
	if err != nil {
		return err
	}
	if err := copyTree(kept, data, who, nil, copyFile); err != nil {
		return fmt.Errorf("copy the cluster template: %w", err)
	}
	if err := renewIdentity(data); err != nil {
		return err
	}
	if o.XIDEpoch > 0 {
		if err := setEpoch(ctx, install, who, data, o.XIDEpoch); err != nil {
			return err
		}
	}
	if o.Password != "" {
		return demandPassword(ctx, install, who, data, o.Password)
	}
	return nil
}

// template returns the folder with the kept data directory of this very build, which build makes at the first use.
func template(identity []byte, who *account, build func(data string) error) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	templates := filepath.Join(cache, "templates")
	kept := filepath.Join(templates, fmt.Sprintf("%08x", crc32.ChecksumIEEE(append(identity, "\nwith holes"...))))
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	if err := os.MkdirAll(templates, 0o755); err != nil {
		return "", fmt.Errorf("cluster templates: %w; set LOCKSTEP_CACHE to a folder that can be written", err)
	}
	return kept, makeTemplate(who, kept, build)
}

// makeTemplate lets build work where the server's account may, and moves the result into place as a whole: of two
// processes that make the same template one wins, and both are right.
func makeTemplate(who *account, kept string, build func(data string) error) error {
	work, err := newDir("", who)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	data := filepath.Join(work, "data")
	if err := build(data); err != nil {
		return err
	}
	draft, err := os.MkdirTemp(filepath.Dir(kept), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(draft)
	if err := copyTree(data, filepath.Join(draft, "data"), nil, nil, withHoles); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(draft, "data"), kept); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func initdb(ctx context.Context, install Install, who *account, data string) error {
	return onCluster(ctx, install, who, data, "", "initdb", "-D", data, "-U", superuser, "--no-sync", "--no-instructions",
		"--locale=C", "--encoding=UTF8", "--auth=trust")
}

// demandPassword gives the superuser of a cluster that does not run a password, without which nobody comes in any more.
func demandPassword(ctx context.Context, install Install, who *account, data, password string) error {
	statement := fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'\n", superuser, strings.ReplaceAll(password, "'", "''"))
	if err := onCluster(ctx, install, who, data, statement, "postgres", "--single", "-j", "-F", "-D", data, superuser); err != nil {
		return err
	}
	path := filepath.Join(data, "pg_hba.conf")
	if err := os.WriteFile(path, []byte("host all all all scram-sha-256\nhost replication all all scram-sha-256\n"), 0o600); err != nil {
		return err
	}
	return who.own(path)
}

// setEpoch lets a cluster that does not run go on with transaction ids that have wrapped around so many times. Not every
// build has the program for that.
func setEpoch(ctx context.Context, install Install, who *account, data string, epoch int) error {
	return onCluster(ctx, install, who, data, "", "pg_resetwal", "-f", "-e", strconv.Itoa(epoch), "-D", data)
}

// CanSetEpoch reports whether [Options.XIDEpoch] can be had.
func (i Install) CanSetEpoch() bool {
	_, err := os.Stat(filepath.Join(i.Bin, "pg_resetwal"))
	return err == nil
}

// onCluster runs a program of PostgreSQL's on the data folder of a cluster that does not run.
func onCluster(ctx context.Context, install Install, who *account, data, input, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(install.Bin, program), args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = filepath.Dir(data), environment(data), who.attributes(syscall.SIGQUIT)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s of %v: %w: %s", program, install.Version, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// newDir makes a folder below another (empty: TMPDIR) that the server's account owns and may enter.
func newDir(below string, who *account) (string, error) {
	dir, err := os.MkdirTemp(below, "lockstep-db-")
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), who.own(dir), reachable(dir, who)); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// copyTree copies a data directory for who. skip is asked with the path inside it; of a skipped folder the contents stay
// out. What disappears on the way is left out: a running server removes files as it likes.
func copyTree(from, to string, who *account, skip func(path string) bool, file func(from, to string) error) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil
		}
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if skip != nil && skip(inside) {
			return nil
		}
		target := filepath.Join(to, inside)
		switch {
		case entry.IsDir():
			err = os.MkdirAll(target, 0o700)
		case entry.Type().IsRegular():
			err = file(path, target)
		default:
			return fmt.Errorf("%s: a tablespace or another special file; only plain data directories are copied", path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return who.own(target)
	})
}

// copyFile has the kernel copy a file, but for its holes: a server's folder has tens of megabytes, which in a test with the
// race detector would take most of a start.
func copyFile(from, to string) error {
	return between(from, to, copyData)
}

// withHoles copies a file and makes holes where it has zeros: half of a fresh data directory is logs that nobody has
// written to.
func withHoles(from, to string) error {
	return between(from, to, func(out, in *os.File) error {
		block, zeros := make([]byte, 32<<10), make([]byte, 32<<10)
		for size := int64(0); ; {
			n, err := io.ReadFull(in, block)
			if !bytes.Equal(block[:n], zeros[:n]) {
				if _, err := out.WriteAt(block[:n], size); err != nil {
					return err
				}
			}
			size += int64(n)
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return out.Truncate(size)
			}
			if err != nil {
				return err
			}
		}
	})
}

func between(from, to string, carry func(out, in *os.File) error) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return carry(out, in)
}

// renewIdentity gives a cluster that has never run a system identifier of its own. It stands in two places:
//
//	global/pg_control   bytes 0-7; the CRC-32C over all that precedes it follows the last field (pg_control.h)
//	pg_wal/<segment>    bytes 24-31 of the long header that starts each segment; not under a checksum (xlog_internal.h)
func renewIdentity(data string) error {
	id := binary.NativeEndian.AppendUint64(nil, rand.Uint64()>>1)
	path := filepath.Join(data, "global", "pg_control")
	control, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at, err := checksumAt(control)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	copy(control, id)
	binary.NativeEndian.PutUint32(control[at:], crc32.Checksum(control[:at], castagnoli))
	if err := os.WriteFile(path, control, 0o600); err != nil {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(data, "pg_wal", strings.Repeat("[0-9A-F]", 24)))
	if err != nil {
		return err
	}
	for _, segment := range segments {
		if err := overwrite(segment, id, 24); err != nil {
			return err
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumAt finds the checksum where it is right, so that no version's layout need be known.
func checksumAt(control []byte) (int, error) {
	sum := uint32(0)
	for at := 0; at+8 <= len(control) && at < 512; at += 4 {
		if at > 64 && binary.NativeEndian.Uint32(control[at:]) == sum {
			return at, nil
		}
		sum = crc32.Update(sum, castagnoli, control[at:at+4])
	}
	return 0, errors.New("no checksum found; is this a control file of PostgreSQL?")
}

func overwrite(path string, what []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(what, at)
	return errors.Join(err, f.Close())
}

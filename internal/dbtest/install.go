// Package dbtest runs real servers of PostgreSQL, MySQL and MariaDB in directories of their own on free loopback ports, for tests and for
// `lockstep demo`. It ends what it started and nothing else.
//
// The core (Find, Start, NewGroup, Standby; FindMySQL, StartMySQL, NewMySQLGroup) returns errors; the functions that end in T wrap it for tests. A server is
// not bound to the context it was started with: that one only bounds the wait until it accepts connections. Close ends it,
// and so does the end of this process, however it comes.
package dbtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Version is a major version of PostgreSQL. Any that Debian has installed can be named, not only the two below.
type Version int

// The versions that every test of ours runs with: the oldest and the newest whose logical replication differs.
const (
	PG15 Version = 15
	PG18 Version = 18
)

func (v Version) String() string { return "PostgreSQL " + strconv.Itoa(int(v)) }

// Install is one version's programs on this machine.
type Install struct {
	Version Version
	Bin     string // folder with initdb and postgres
}

// debian is where Debian's packages put each major version.
const debian = "/usr/lib/postgresql"

// Find looks for a version where Debian installs it, then in the cache folder that `make deps` fills.
func Find(v Version) (Install, error) {
	if err := supported(v); err != nil {
		return Install{}, err
	}
	candidates := []string{filepath.Join(debian, strconv.Itoa(int(v)), "bin")}
	cache, err := cacheDir()
	if err == nil {
		candidates = append(candidates, filepath.Join(cache, "postgresql-"+strconv.Itoa(int(v)), "native", "bin"))
	}
	for _, bin := range candidates {
		if complete(bin) {
			return Install{Version: v, Bin: bin}, nil
		}
	}
	if v != PG15 && v != PG18 {
		return Install{}, fmt.Errorf("%v was not found in %q; choose %d or %d, which `make deps` installs", v, candidates, PG15, PG18)
	}
	return Install{}, fmt.Errorf("%v was not found in %q; `make deps` installs it", v, candidates)
}

// Installed lists the versions that Find can find, oldest first.
func Installed() []Install {
	versions := []Version{PG15, PG18}
	entries, _ := os.ReadDir(debian) // a missing folder has no versions
	for _, entry := range entries {
		if n, err := strconv.Atoi(entry.Name()); err == nil && !slices.Contains(versions, Version(n)) {
			versions = append(versions, Version(n))
		}
	}
	slices.Sort(versions)
	var found []Install
	for _, v := range versions {
		if install, err := Find(v); err == nil {
			found = append(found, install)
		}
	}
	return found
}

// errPlatform marks a version that cannot be had on this platform, so that even CI has to do without it.
var errPlatform = errors.New("not available on this platform")

func supported(v Version) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("%v on %s: %w; servers are started on Linux only", v, runtime.GOOS, errPlatform)
	}
	if v == PG18 && runtime.GOARCH != "amd64" && !complete(filepath.Join(debian, "18", "bin")) {
		return fmt.Errorf("%v on %s: %w; its prebuilt programs exist for amd64 only", v, runtime.GOARCH, errPlatform)
	}
	return nil
}

func complete(bin string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(bin, program))
		if err != nil || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// versions are what programs have told, by their path: asking MySQL takes as long as a short test.
var versions sync.Map

// versionOf asks a program for its version, once in the life of this process.
func versionOf(command ...string) (string, error) {
	program := strings.Join(command, " ")
	if known, ok := versions.Load(program); ok {
		return known.(string), nil
	}
	out, err := exec.Command(command[0], append(command[1:], "--version")...).Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	version := strings.TrimSpace(string(out))
	versions.Store(program, version)
	return version, nil
}

// cacheDir must agree with scripts/deps. Root has its own place, because root's home is closed to the account that the
// servers then run as.
func cacheDir() (string, error) {
	if dir := os.Getenv("LOCKSTEP_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return "/var/cache/lockstep", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w; set LOCKSTEP_CACHE", err)
	}
	return filepath.Join(dir, "lockstep"), nil
}

// reachable tells whether account may enter dir: it needs the x bit of dir and of all above it.
func reachable(dir string, account *account) error {
	if account == nil {
		return nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if !account.mayEnter(info) {
			return fmt.Errorf("%s is closed to account %s, which servers run as when lockstep runs as root (%w); use a folder that it may enter: TMPDIR for the servers' data, LOCKSTEP_CACHE for their programs",
				at, account.name, fs.ErrPermission)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

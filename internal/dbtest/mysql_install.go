package dbtest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Flavour is a server that speaks MySQL's protocol, with its release series. The zero value is none.
type Flavour string

// The flavours that every test of ours runs with.
const (
	MariaDB1011 Flavour = "MariaDB 10.11"
	MySQL97     Flavour = "MySQL 9.7"
)

func (f Flavour) String() string { return string(f) }

// MariaDB tells the two dialects apart.
func (f Flavour) MariaDB() bool { return strings.HasPrefix(string(f), "MariaDB") }

// series is what `--version` of the server's program names.
func (f Flavour) series() string { return string(f)[strings.LastIndexByte(string(f), ' ')+1:] }

// MySQLInstall is one flavour's programs on this machine.
type MySQLInstall struct {
	Flavour Flavour
	Prefix  string // holds usr/sbin and usr/share/mysql

	version string // as the program itself tells it
}

// FindMySQL looks for MariaDB where Debian installs it, and for MySQL in the cache folder that `make deps` fills.
func FindMySQL(f Flavour) (MySQLInstall, error) {
	if runtime.GOOS != "linux" {
		return MySQLInstall{}, fmt.Errorf("%v on %s: %w; servers are started on Linux only", f, runtime.GOOS, errPlatform)
	}
	install := MySQLInstall{Flavour: f}
	switch f {
	case MariaDB1011:
		install.Prefix = "/"
	case MySQL97:
		if runtime.GOARCH != "amd64" {
			return MySQLInstall{}, fmt.Errorf("%v on %s: %w; `make deps` unpacks it on amd64 only", f, runtime.GOARCH, errPlatform)
		}
		cache, err := cacheDir()
		if err != nil {
			return MySQLInstall{}, err
		}
		install.Prefix = filepath.Join(cache, "mysql-9.7")
	default:
		return MySQLInstall{}, fmt.Errorf("no flavour %q; choose %q or %q", string(f), MariaDB1011, MySQL97)
	}
	err := install.check()
	return install, err
}

// check asks the program for its version, since the folder does not tell it.
func (i *MySQLInstall) check() error {
	if _, err := os.Stat(i.program()); err != nil {
		return fmt.Errorf("%v was not found: %w; `make deps` installs it", i.Flavour, err)
	}
	var err error
	if i.version, err = versionOf(i.command("--no-defaults")...); err != nil {
		return err
	}
	if !strings.Contains(i.version, " "+i.Flavour.series()+".") {
		return fmt.Errorf("%v was not found: %s is %q", i.Flavour, i.program(), i.version)
	}
	return nil
}

// InstalledMySQL lists the flavours that FindMySQL can find.
func InstalledMySQL() []MySQLInstall {
	var found []MySQLInstall
	for _, f := range []Flavour{MariaDB1011, MySQL97} {
		if install, err := FindMySQL(f); err == nil {
			found = append(found, install)
		}
	}
	return found
}

func (i MySQLInstall) program() string {
	if i.Flavour.MariaDB() {
		return filepath.Join(i.Prefix, "usr/sbin/mariadbd")
	}
	return filepath.Join(i.Prefix, "usr/sbin/mysqld")
}

func (i MySQLInstall) share(name string) string {
	return filepath.Join(i.Prefix, "usr/share/mysql", name)
}

// command is the program with its arguments. MySQL is not installed but unpacked, with all libraries it needs: its own
// loader starts it, since this machine's C library may be older than the one it was built with.
func (i MySQLInstall) command(arguments ...string) []string {
	if i.Flavour.MariaDB() {
		return append([]string{i.program()}, arguments...)
	}
	return append([]string{
		filepath.Join(i.Prefix, "usr/lib64/ld-linux-x86-64.so.2"),
		"--library-path", filepath.Join(i.Prefix, "usr/lib/x86_64-linux-gnu"),
		i.program(),
	}, arguments...)
}

// places tells the program where its own files are.
func (i MySQLInstall) places() map[string]string {
	places := map[string]string{"basedir": filepath.Join(i.Prefix, "usr")}
	if !i.Flavour.MariaDB() {
		places["lc_messages_dir"] = i.share("")
		places["character_sets_dir"] = i.share("charsets")
		places["secure_file_priv"] = "NULL"
		places["plugin_dir"] = filepath.Join(i.Prefix, "usr/lib/mysql/plugin")
	}
	return places
}

package dbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// newMySQL fills data with fresh system tables, in which root needs no password on 127.0.0.1. Making them takes up to two
// seconds, so that they are kept and copied, as PostgreSQL's are.
func newMySQL(ctx context.Context, install MySQLInstall, who *account, data string) error {
	identity := strings.Join(append(install.command(), install.version, fmt.Sprint(initialSettings), rootOverTCP), "\n")
	kept, err := template([]byte(identity), who, func(data string) error {
		if install.Flavour.MariaDB() {
			return bootstrapMariaDB(ctx, install, who, data)
		}
		return initializeMySQL(ctx, install, who, data)
	})
	if err != nil {
		return err
	}
	if err := copyTree(kept, data, who, nil, copyFile); err != nil {
		return fmt.Errorf("copy the template of %v: %w", install.Flavour, err)
	}
	return nil
}

// initialSettings are for making the system tables: no binlog, so that a new server's set of GTIDs is empty.
var initialSettings = map[bool]map[string]string{
	true:  {"skip_log_bin": "ON", "innodb_log_file_size": "16M", "innodb_use_native_aio": "OFF", "character_set_server": "utf8mb4"},
	false: {"skip_log_bin": "ON", "innodb_redo_log_capacity": "16M", "innodb_doublewrite": "OFF"},
}

// rootOverTCP is for MySQL, which makes root@localhost alone; a client on 127.0.0.1 is not that one with skip_name_resolve.
const rootOverTCP = `CREATE USER root@'127.0.0.1';
GRANT ALL PRIVILEGES ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
`

func initializeMySQL(ctx context.Context, install MySQLInstall, who *account, data string) error {
	script := data + ".sql"
	if err := os.WriteFile(script, []byte(rootOverTCP), 0o644); err != nil {
		return err
	}
	defer os.Remove(script)
	if err := initialize(ctx, install, who, data, nil, "--initialize-insecure", "--init-file="+script); err != nil {
		return err
	}
	// Each copy makes a server_uuid of its own when it finds none.
	return os.Remove(filepath.Join(data, "auto.cnf"))
}

// bootstrapMariaDB does what mariadb-install-db does, which needs programs of another package. The bootstrap reads a
// statement a line at least.
func bootstrapMariaDB(ctx context.Context, install MySQLInstall, who *account, data string) error {
	parts := []io.Reader{strings.NewReader("CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n")}
	for _, name := range []string{"mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data", "maria_add_gis_sp_bootstrap"} {
		text, err := os.ReadFile(install.share(name + ".sql"))
		if err != nil {
			return fmt.Errorf("system tables of %v: %w", install.Flavour, err)
		}
		parts = append(parts, bytes.NewReader(text), strings.NewReader("\n"))
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := who.own(data); err != nil {
		return err
	}
	return initialize(ctx, install, who, data, io.MultiReader(parts...), "--bootstrap")
}

func initialize(ctx context.Context, install MySQLInstall, who *account, data string, input io.Reader, how ...string) error {
	settings := install.places()
	for name, value := range initialSettings[install.Flavour.MariaDB()] {
		settings[name] = value
	}
	settings["datadir"] = data
	settings["tmpdir"] = filepath.Dir(data)
	command := install.command(append(arguments(settings), how...)...)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = filepath.Dir(data), environment(filepath.Dir(data)), who.attributes(syscall.SIGKILL)
	cmd.Stdin = input
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("system tables of %v: %w: %s", install.Flavour, err, strings.TrimSpace(string(out)))
	}
	if _, err := os.Stat(filepath.Join(data, "mysql")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("system tables of %v: none were made in %s", install.Flavour, data)
	}
	return nil
}

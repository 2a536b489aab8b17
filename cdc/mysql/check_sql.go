package mysql

import (
	"fmt"
	"strings"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// administrator is the program that a script of ours is for.
func administrator(v version) string {
	if v.mariadb {
		return "mariadb -u root"
	}
	return "mysql -u root"
}

// preamble makes a script mean what it says whatever the session's settings, refuse another server than the one that was
// looked at, and leave no transactions in the log: on a replica they would be errant, and on its source they would stop
// every replica that lacks the account.
//
// Neither server knows a condition outside of procedures. The client stops at a statement that cannot be prepared, and
// the server's complaint about it holds the words.
func preamble(v version, systemID string) string {
	identity := "@@server_uuid"
	if v.mariadb {
		identity = "CONCAT(@@hostname, ':', @@port, @@datadir)"
	}
	return "SET SESSION sql_mode = '';\nSET NAMES utf8mb4;\n" +
		fmt.Sprintf("SET @lockstep = IF(%s = %s, 'DO 0', 'this script is for another server');\n", identity, quoteText(systemID)) +
		"PREPARE lockstep FROM @lockstep;\nDEALLOCATE PREPARE lockstep;\nSET SESSION sql_log_bin = 0;\n"
}

// assign fills in what gives a setting a value, for good. On MariaDB only its files are.
func assign(c *preflight.Check, v version, name, value, note string) {
	if !v.mariadb {
		c.SQL, c.Hint = fmt.Sprintf("SET PERSIST %s = %s;", name, value), note
		return
	}
	c.SQL = fmt.Sprintf("SET GLOBAL %s = %s;", name, value)
	c.Hint = fmt.Sprintf("write %s = %s below [mariadb] in the server's configuration too, or the next restart undoes it", name, value)
	if note != "" {
		c.Hint += "; " + note
	}
}

// assignAtStart is assign for a setting that is read when the server starts.
func assignAtStart(c *preflight.Check, v version, name, value string) {
	c.Restart = true
	if !v.mariadb {
		c.SQL = fmt.Sprintf("SET PERSIST_ONLY %s = %s;", name, value)
		return
	}
	c.Hint = fmt.Sprintf("write %s = %s below [mariadb] in the server's configuration, and restart it", name, value)
}

// restartReplication is what makes replication heed settings that were changed since it started.
func restartReplication(v version) string {
	if v.mariadb {
		return "STOP ALL SLAVES; START ALL SLAVES;"
	}
	if v.atLeast(8, 0, 22) {
		return "STOP REPLICA; START REPLICA;"
	}
	return "STOP SLAVE; START SLAVE;"
}

// wholeSchema is all tables of a schema, for GRANT, where _ and % stand for other characters unless \ takes that from them.
func wholeSchema(schema string) string {
	return quoteName(strings.NewReplacer(`\`, `\\`, "_", `\_`, "%", `\%`).Replace(schema)) + ".*"
}

package mysql

import (
	"fmt"
	"strings"

	"github.com/lockstep-cdc/lockstep/preflight"
)

// administrator is the program that a script of ours is for.
func administrator(v version, s settings) string {
	if s.rds() {
		return "mysql, as the master user of the instance"
	}
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
//
// On Amazon RDS nothing can be kept out of the log; there a replica takes no statements of that kind.
func preamble(v version, systemID string, s settings) string {
	identity := "@@server_uuid"
	if v.mariadb {
		identity = "CONCAT(@@hostname, ':', @@port, @@datadir)"
	}
	text := "SET SESSION sql_mode = '';\nSET NAMES utf8mb4;\n" +
		fmt.Sprintf("SET @lockstep = IF(%s = %s, 'DO 0', 'this script is for another server');\n", identity, quoteText(systemID)) +
		"PREPARE lockstep FROM @lockstep;\nDEALLOCATE PREPARE lockstep;\n"
	if s.rds() {
		return text
	}
	return text + "SET SESSION sql_log_bin = 0;\n"
}

// inParameters says where a setting of Amazon RDS is.
func inParameters(name, value string) string {
	return fmt.Sprintf("set %s = %s in the parameter group of the instance (on Aurora, of the cluster)", name, value)
}

// assign fills in what gives a setting a value, for good. On MariaDB only its files are, on Amazon RDS no statement is.
func assign(c *preflight.Check, v version, s settings, name, value, note string) {
	if s.rds() {
		c.Hint = inParameters(name, value)
		if note != "" {
			c.Hint += "; " + note
		}
		return
	}
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
func assignAtStart(c *preflight.Check, v version, s settings, name, value string) {
	c.Restart = true
	if s.rds() {
		c.Hint = inParameters(name, value) + ", and restart it"
		return
	}
	if !v.mariadb {
		c.SQL = fmt.Sprintf("SET PERSIST_ONLY %s = %s;", name, value)
		return
	}
	c.Hint = fmt.Sprintf("write %s = %s below [mariadb] in the server's configuration, and restart it", name, value)
}

// restartReplication is what makes replication heed settings that were changed since it started.
func restartReplication(v version, s settings) string {
	if s.rds() {
		return "CALL mysql.rds_stop_replication; CALL mysql.rds_start_replication;"
	}
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

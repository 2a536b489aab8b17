package finding

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// walSegment is the size of a file of PostgreSQL's log, unless initdb was told another.
const walSegment = 16 << 20

// Look is the command that shows the transaction of a divergence in the log of the server whose it is; empty: there is none. A
// position of PostgreSQL's is the end of the commit record, which names the transaction's xid
// (https://www.postgresql.org/docs/current/pgwaldump.html). MariaDB's tool shows what comes after one GTID, up to and with another: of the
// one before only the domain and the number count (https://mariadb.com/kb/en/mariadb-binlog-options/, since 10.8).
func (d *Divergence) Look() string {
	if d.IntroducedBy == nil {
		return ""
	}
	server, tx := d.Reference, d.IntroducedBy.Transaction
	if d.Cause == CauseErrant {
		server = d.Member
	}
	if end, err := cdc.ParseLSN(tx); err == nil {
		start := (end - 1) / walSegment * walSegment
		return fmt.Sprintf("pg_waldump --path=pg_wal --start=%v --end=%v | tail -n 1, in the data directory of %s: its commit, with the xid", start, end, server)
	}
	if strings.Contains(tx, ":") {
		return fmt.Sprintf("mysqlbinlog --verbose --include-gtids=%s, with the binlog files of %s from about then", tx, server)
	}
	i := strings.LastIndexByte(tx, '-')
	if number, err := strconv.ParseUint(tx[i+1:], 10, 64); i > 0 && err == nil && number > 0 {
		return fmt.Sprintf("mariadb-binlog --verbose --base64-output=decode-rows --start-position=%s-%d --stop-position=%s, with the binlog files of %s from about then (MariaDB 10.8 or newer)", tx[:i], number-1, tx, server)
	}
	return ""
}

package finding_test

import (
	"testing"

	"github.com/lockstep-cdc/lockstep/finding"
)

// That pg_waldump shows the commit at the end of what it is told to show was seen on PostgreSQL 15, that mariadb-binlog shows
// the one transaction on MariaDB 10.11, also where another server wrote the one before.
func TestTheCommandLooksAtTheServerWhoseTransactionItIs(t *testing.T) {
	for _, c := range []struct {
		cause    finding.Cause
		tx, look string
	}{
		{finding.CauseErrant, "0/15200F8", "pg_waldump --path=pg_wal --start=0/1000000 --end=0/15200F8 | tail -n 1, in the data directory of us: its commit, with the xid"},
		{finding.CauseApply, "2A/3000000", "pg_waldump --path=pg_wal --start=2A/2000000 --end=2A/3000000 | tail -n 1, in the data directory of eu: its commit, with the xid"},
		{finding.CauseSkipped, "3e11fa47-71ca-11e1-9e33-c80aa9429562:7", "mysqlbinlog --verbose --include-gtids=3e11fa47-71ca-11e1-9e33-c80aa9429562:7, with the binlog files of eu from about then"},
		{finding.CauseErrant, "0-2-7", "mariadb-binlog --verbose --base64-output=decode-rows --start-position=0-2-6 --stop-position=0-2-7, with the binlog files of us from about then (MariaDB 10.8 or newer)"},
		{finding.CauseErrant, "nothing known", ""},
	} {
		d := finding.Divergence{Member: "us", Reference: "eu", Cause: c.cause, IntroducedBy: &finding.Introduced{Transaction: c.tx}}
		if look := d.Look(); look != c.look {
			t.Errorf("%s of %s: %q", c.tx, c.cause, look)
		}
	}
	if look := (&finding.Divergence{}).Look(); look != "" {
		t.Errorf("nobody knows the transaction: %q", look)
	}
}

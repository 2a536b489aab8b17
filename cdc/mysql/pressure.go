package mysql

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// manyHeld is the length of InnoDB's history list from which on we take reading to suffer: a look at a row goes back
// through its versions, and they push what is in use out of the buffer pool. Where purge keeps up, the list is a thousandth
// of that (https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/proactive-insights.history-list.html).
const manyHeld = 1_000_000

// sessions is the table of the server's sessions: of those of other accounts we see nothing without PROCESS. On MySQL
// that of information_schema locks the list of sessions while it is read.
func (v version) sessions() string {
	if !v.mariadb && v.atLeast(8, 0, 22) {
		return "performance_schema.processlist"
	}
	return "information_schema.PROCESSLIST"
}

func (v version) status() string {
	if v.mariadb {
		return "information_schema.GLOBAL_STATUS"
	}
	return "performance_schema.global_status"
}

// ours says in SQL that a session is one of our account's.
const ours = "USER = SUBSTRING_INDEX(USER(), '@', 1)"

// runningQuery takes our own sessions, and those that only wait for what is to be sent to replicas or to be received, from
// the threads that run. What an idle replica of MariaDB runs to apply is left: few, and always as many.
func (v version) runningQuery() string {
	status := "(SELECT VARIABLE_VALUE FROM " + v.status() + " WHERE VARIABLE_NAME = "
	return "SELECT " + status + "'Threads_running') AS running, " + status + "'Innodb_history_list_length') AS held, " +
		"(SELECT COUNT(*) FROM " + v.sessions() + " WHERE " + ours + " AND COMMAND <> 'Sleep' " +
		"OR COMMAND LIKE 'Binlog Dump%' OR COMMAND IN ('Daemon', 'Slave_IO')) AS apart"
}

// oldestQuery is about the transaction that is open for the longest. InnoDB tells when it began by the server's clock on
// the wall, whatever the session's time zone. It answers from memory who asks again within a tenth of a second.
func (v version) oldestQuery() string {
	return "SELECT TIMESTAMPDIFF(SECOND, MIN(trx_started), CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM')) AS oldest FROM information_schema.INNODB_TRX " +
		"WHERE trx_mysql_thread_id NOT IN (SELECT ID FROM " + v.sessions() + " WHERE " + ours + ")"
}

const heldQuery = "SELECT `COUNT` AS held FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'"

// Pressure implements [cdc.Gauger].
func (s *Source) Pressure(ctx context.Context) (cdc.Pressure, error) {
	p := cdc.Pressure{ManyHeld: manyHeld}
	err := s.ask(ctx, func(ctx context.Context, c *session) error {
		facts, err := c.figures(ctx, c.version.runningQuery(), "running", "apart", "held")
		if err != nil {
			return fmt.Errorf("read how busy the server is: %w", err)
		}
		p.Running, p.Held, p.Notes = max(int(facts["running"]-facts["apart"]), 0), facts["held"], nil
		err = c.transactions(ctx, &p)
		var denied *cdc.SetupError
		if errors.As(c.missingRight(err, "PROCESS", "*.*"), &denied) {
			p.Notes = []string{"open transactions are hidden from us: " + denied.Hint}
			return nil
		}
		return err
	})
	return p, err
}

// transactions asks for what only an account with PROCESS may see. MariaDB tells the length of the history list to all.
func (c *session) transactions(ctx context.Context, p *cdc.Pressure) error {
	facts, err := c.figures(ctx, c.version.oldestQuery(), "oldest")
	if err != nil {
		return fmt.Errorf("read open transactions: %w", err)
	}
	p.Oldest = time.Duration(max(facts["oldest"], 0)) * time.Second
	if c.version.mariadb {
		return nil
	}
	if facts, err = c.figures(ctx, heldQuery, "held"); err != nil {
		return fmt.Errorf("read the length of the history list: %w", err)
	}
	p.Held = facts["held"]
	return nil
}

// figures reads numbers from the one row of an answer; what is not there is zero.
func (c *session) figures(ctx context.Context, query string, names ...string) (map[string]int64, error) {
	rows, err := c.query(ctx, query)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	figures := map[string]int64{}
	for _, name := range names {
		text := rows[0].text(name)
		if text == "" {
			continue
		}
		if figures[name], err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, fmt.Errorf("%s is %q instead of a number", name, text)
		}
	}
	return figures, nil
}

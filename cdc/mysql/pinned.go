package mysql

import (
	"context"
	"fmt"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// pinned are the settings that shape values, or would narrow or end what we read. Some exist on one flavour or from some
// version on only. Each is checked once it is set.
//
// sql_select_limit and max_statement_time can be set for all sessions of an account; a table that is cut off by them
// would look like one that lacks rows.
func pinned(v version) []setting {
	settings := []setting{
		{"character_set_results", "NULL"}, // each value in the character set of its column, as in the binlog
		{"time_zone", "'+00:00'"},
		{"sql_mode", "'ALLOW_INVALID_DATES'"}, // which a key may hold; no PAD_CHAR_TO_FULL_LENGTH, ANSI_QUOTES, NO_BACKSLASH_ESCAPES
		{"autocommit", "1"},
		{"sql_select_limit", "18446744073709551615"},
		{"sql_big_selects", "1"},
		{"sql_safe_updates", "0"},
		{"lock_wait_timeout", "10"}, // of waiting for who alters a table; others would wait behind us
		{"wait_timeout", "86400"},   // a snapshot may be held while nothing is read from it
		{"net_write_timeout", "600"},
		{"net_read_timeout", "600"},
		{"max_sort_length", "8388608"},
		{"sql_quote_show_create", "1"},
	}
	if v.mariadb {
		return append(settings,
			setting{"max_statement_time", "0"},
			setting{"in_predicate_conversion_threshold", "0"}, // a list of keys is read off the index, however long
			setting{"idle_transaction_timeout", "0"},
			setting{"idle_readonly_transaction_timeout", "0"},
			setting{"system_versioning_asof", "DEFAULT"},
		)
	}
	settings = append(settings,
		setting{"max_execution_time", "0"},
		setting{"range_optimizer_max_mem_size", "0"}, // a list of keys is read off the index, however long
	)
	if v.atLeast(8, 0, 30) {
		settings = append(settings, setting{"show_gipk_in_create_table_and_information_schema", "ON"}) // they are in the row images
	}
	if v.atLeast(8, 0, 13) {
		settings = append(settings, setting{"use_secondary_engine", "OFF"}) // a copy that may be behind
	}
	return settings
}

type setting struct{ name, value string }

// checked are the settings without which values or tables would look different from what they are.
var checked = []setting{
	{"character_set_results", ""}, {"time_zone", "+00:00"}, {"sql_mode", "ALLOW_INVALID_DATES"}, {"sql_select_limit", "18446744073709551615"},
}

// pin finds out who the server and we are, sets the settings, and makes sure that they hold: a proxy in between may give
// each statement another session.
func (c *session) pin(ctx context.Context) error {
	who, err := c.one(ctx, "SELECT @@version, CURRENT_USER()", 2)
	if err != nil {
		return err
	}
	c.version = parseVersion(who.at(0))
	c.account = quoteAccount(who.at(1))
	if err := c.version.supported(); err != nil {
		return err
	}
	var assignments []string
	for _, s := range pinned(c.version) {
		assignments = append(assignments, "SESSION "+s.name+" = "+s.value)
	}
	err = c.exec(ctx, "SET NAMES utf8mb4", "SET "+strings.Join(assignments, ", "),
		"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY") // we write no row but a canary, see Execute
	if err != nil {
		return err
	}
	for _, s := range checked {
		is, err := c.one(ctx, "SELECT @@SESSION."+s.name, 1)
		if err != nil {
			return err
		}
		if got := is.at(0); got != s.value {
			return &cdc.SetupError{
				Problem: fmt.Sprintf("%s is %q in our session although we asked for %q", s.name, got, s.value),
				Hint:    "connect to the server itself, not through a proxy",
			}
		}
	}
	return nil
}

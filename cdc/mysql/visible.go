package mysql

import (
	"context"
	"strconv"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
)

var _ cdc.Member = (*Source)(nil)

// Written implements [cdc.Member].
func (s *Source) Written(ctx context.Context) (set cdc.TxSet, err error) {
	err = s.ask(ctx, func(ctx context.Context, c *session) error {
		set, err = readApplied(ctx, c)
		return err
	})
	return set, err
}

// Visible implements [cdc.Member]. Of MariaDB it has each id that the log shows, not just the last of each domain.
func (s *Source) Visible(ctx context.Context) (set cdc.TxSet, err error) {
	err = s.ask(ctx, func(ctx context.Context, c *session) error {
		if set, err = readVisible(ctx, c); err != nil || !c.version.mariadb {
			return err
		}
		state, err := c.one(ctx, "SELECT @@GLOBAL.gtid_binlog_state", 1)
		if err == nil {
			set.AddSet(upTo(set.String(), state.at(0)))
		}
		return err
	})
	return set, err
}

// upTo returns those ids of a binlog's state that are not after a position: within a domain the log has numbers in order.
func upTo(position, state string) (set cdc.TxSet) {
	last := map[string]uint64{}
	for entry := range strings.SplitSeq(position, ",") {
		if domain, _, seq, ok := splitGTID(entry); ok {
			last[domain] = max(last[domain], seq)
		}
	}
	for entry := range strings.SplitSeq(state, ",") {
		if domain, server, seq, ok := splitGTID(entry); ok {
			set.Add(cdc.TxID{Source: domain + "-" + server, Seq: min(seq, last[domain])})
		}
	}
	return set
}

// splitGTID takes domain-server-number apart.
func splitGTID(entry string) (domain, server string, seq uint64, ok bool) {
	parts := strings.Split(strings.TrimSpace(entry), "-")
	if len(parts) != 3 {
		return "", "", 0, false
	}
	seq, err := strconv.ParseUint(parts[2], 10, 64)
	return parts[0], parts[1], seq, err == nil
}

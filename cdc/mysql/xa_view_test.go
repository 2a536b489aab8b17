package mysql

import (
	"context"
	"fmt"
	"testing"

	"lockstep/cdc"
	"lockstep/digest"
	"lockstep/internal/dbtest"
)

func TestLabXA(t *testing.T) {
	onServers(t, map[string]func(*testing.T, *dbtest.MySQLServer){"xa": labXA})
}

func labXA(t *testing.T, server *dbtest.MySQLServer) {
	run(t, server, "CREATE TABLE app.xa (k int PRIMARY KEY, n int)", "CREATE TABLE app.other (k int auto_increment PRIMARY KEY)")
	f := follow(t, server, "app", "xa")
	type seen struct {
		view cdc.View
		keys map[string]bool
	}
	var reads []seen
	while(t, server, 3, func(writer, n int) string {
		if writer == 2 {
			return "INSERT INTO app.other VALUES ()"
		}
		switch n % 5 {
		case 0:
			return fmt.Sprintf("XA START 'x%d'", writer)
		case 1:
			return fmt.Sprintf("INSERT INTO app.xa VALUES (%d, 1), (%d, 1)", 1000000*writer+n, 1000000*writer+n+1)
		case 2:
			return fmt.Sprintf("XA END 'x%d'", writer)
		case 3:
			return fmt.Sprintf("XA PREPARE 'x%d'", writer)
		}
		return fmt.Sprintf("XA COMMIT 'x%d'", writer)
	}, func() {
		for range 300 {
			s := seen{keys: map[string]bool{}}
			var err error
			s.view, err = f.Read(t.Context(), f.table, f.epoch, cdc.Part{}, func(k digest.Key, _ *digest.Row) error {
				s.keys[string(k)] = true
				return nil
			})
			if err != nil {
				t.Error(err)
				return
			}
			reads = append(reads, s)
		}
	})
	before, after := 0, 0
	all := f.all()
	for _, s := range reads {
		for _, tx := range all {
			for _, c := range tx.Changes {
				has := s.keys[string(c.Key)]
				if tx.Commit < s.view.Cut && !has {
					before++
				}
				if tx.Commit >= s.view.Settled && has {
					after++
				}
			}
		}
	}
	t.Logf("%d transactions, missing before cut %d, there after settled %d", len(all), before, after)
	if before+after > 0 {
		t.Errorf("bad")
	}
	_ = context.Background
}

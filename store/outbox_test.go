package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"lockstep/align"
	"lockstep/store"
)

// notify puts the news of findings into the outbox and commits.
func notify(t *testing.T, g *store.Group, numbers ...int) {
	t.Helper()
	g.Receivers = true
	for _, n := range numbers {
		must(t, g.Notify(finding(n, align.Open)))
	}
	must(t, g.Commit())
}

// deliver takes up to limit notifications out of the outbox and returns the ends of their ids.
func deliver(t *testing.T, s *store.Store, limit int) (list []string) {
	t.Helper()
	for range limit {
		n, err := s.NextNotification()
		must(t, err)
		if n == nil {
			break
		}
		again, err := s.NextNotification()
		must(t, err)
		if again == nil || again.Number != n.Number {
			t.Errorf("before it is delivered, %d is followed by %+v", n.Number, again)
		}
		must(t, s.Delivered(n))
		list = append(list, strings.TrimLeft(n.Divergence.ID[3:], "0"))
	}
	return list
}

func TestNotificationsAreTakenInOrderOnce(t *testing.T) {
	reopened(t, vfs.NewMem(), func(s *store.Store, g *store.Group) {
		notify(t, g, 5, 3, 4)
		if n, err := s.Waiting(); err != nil || n != 3 {
			t.Errorf("%d wait, %v, want 3", n, err)
		}
		if got, want := deliver(t, s, 9), []string{"5", "3", "4"}; !slices.Equal(got, want) {
			t.Errorf("delivered are %q, want %q", got, want)
		}
		if n, err := s.Waiting(); err != nil || n != 0 {
			t.Errorf("%d wait, %v, want none", n, err)
		}
	})
}

func TestNotificationWaitsForItsCommit(t *testing.T) {
	reopened(t, vfs.NewMem(), func(s *store.Store, g *store.Group) {
		g.Receivers = true
		must(t, g.Notify(finding(1, align.Open)))
		if got := deliver(t, s, 1); got != nil {
			t.Errorf("%q is news before it is durable", got)
		}
	})
}

func TestNobodyIsNotifiedWithoutReceivers(t *testing.T) {
	reopened(t, vfs.NewMem(), func(s *store.Store, g *store.Group) {
		must(t, g.Notify(finding(1, align.Open)))
		must(t, g.Commit())
		if got := deliver(t, s, 1); got != nil {
			t.Errorf("%q waits for nobody", got)
		}
	})
}

func TestUndeliveredNotificationsOutliveCrashesInOrder(t *testing.T) {
	mem := vfs.NewCrashableMem()
	next := 1
	var delivered []string
	for range 4 {
		s := open(t, mem)
		g, other := group(t, s, "shop"), group(t, s, "crm")
		notify(t, g, next, next+1)
		notify(t, other, next+2)
		next += 3
		delivered = append(delivered, deliver(t, s, 2)...)
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		must(t, other.Close())
		end(t, g, s)
		mem = crashed
	}
	s := open(t, mem)
	delivered = append(delivered, deliver(t, s, 99)...)
	must(t, s.Close())
	want := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"}
	if !slices.Equal(delivered, want) {
		t.Errorf("delivered are %q, want %q", delivered, want)
	}
}

// Two groups take their numbers before they commit, so the later number may become durable first.
func TestGroupsDoNotTakeEachOthersNumbers(t *testing.T) {
	fs := vfs.NewMem()
	reopened(t, fs, func(s *store.Store, g *store.Group) {
		other := group(t, s, "crm")
		g.Receivers, other.Receivers = true, true
		must(t, g.Notify(finding(1, align.Open)))
		must(t, other.Notify(finding(2, align.Open)))
		must(t, other.Commit())
		must(t, other.Close()) // the first group's news is lost with its batch
	})
	reopened(t, fs, func(s *store.Store, g *store.Group) {
		notify(t, g, 1, 3)
		if got, want := deliver(t, s, 9), []string{"2", "1", "3"}; !slices.Equal(got, want) {
			t.Errorf("delivered are %q, want %q", got, want)
		}
	})
}

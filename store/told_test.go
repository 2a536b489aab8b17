package store_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/store"
)

func TestWhatReceiversWereToldOutlivesACrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := open(t, mem)
	must(t, s.SetTold("ops", map[string][]byte{"a": []byte("1"), "b": []byte("2")}))
	must(t, s.SetTold("op", map[string][]byte{"sa": []byte("3")}))
	must(t, s.SetTold("ops", map[string][]byte{"a": nil, "c": []byte("4")}))
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	must(t, s.Close())
	s = open(t, crashed)
	defer func() { must(t, s.Close()) }()
	for name, want := range map[string]map[string][]byte{
		"ops": {"b": []byte("2"), "c": []byte("4")}, "op": {"sa": []byte("3")}, "nobody": {},
	} {
		got, err := s.Told(name)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s was told %s", name, diff)
		}
	}
}

func TestNewsCountOnceTheyAreDurable(t *testing.T) {
	reopened(t, vfs.NewMem(), func(s *store.Store, g *store.Group) {
		must(t, g.SetFinding(findingOf(1, finding.Open)))
		g.Notify()
		if n := s.News(); n != 0 {
			t.Errorf("%d news before the commit", n)
		}
		must(t, g.Commit())
		must(t, g.SetMember(1, memberAt(5)))
		must(t, g.Commit())
		if n := s.News(); n != 1 {
			t.Errorf("%d news, want 1", n)
		}
	})
}

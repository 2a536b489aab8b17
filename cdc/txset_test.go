package cdc_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/cdc"
)

const (
	first  = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	second = "9f58c169-d121-11e7-835b-ac9f8e0b6a1d"
)

func parse(t *testing.T, text string) cdc.TxSet {
	t.Helper()
	s, err := cdc.ParseTxSet(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSetsReadAndPrintAsTheirEngineDoes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"0/15261D0":                       "0/15261D0",
		"0-101-11":                        "0-101-11",
		"1-7-3,0-102-10,0-101-11":         "0-101-11,0-102-10,1-7-3",
		first + ":1-5:7":                  first + ":1-5:7",
		strings.ToUpper(first) + ":7:1-6": first + ":1-7",
		first + ":1-5,\n" + second + ":2": first + ":1-5," + second + ":2",
		// A tag is for what follows it (https://dev.mysql.com/doc/refman/9.0/en/replication-gtids-concepts.html).
		first + ":1-3:nightly:4:6": first + ":1-3," + first + ":nightly:4:6",
	} {
		s := parse(t, text)
		if s.String() != want {
			t.Errorf("%q reads as %v, want %s", text, s, want)
		}
		if again := parse(t, s.String()); !again.Equal(s) {
			t.Errorf("%v reads as %v", s, again)
		}
	}
	for _, text := range []string{"x", "0-1", "0-1-x", "1/x", first, first + ":", first + ":0", first + ":5-4", first + ":1-", "short:1", "4294967296-1-1"} {
		if s, err := cdc.ParseTxSet(text); err == nil {
			t.Errorf("%q reads as %v", text, s)
		}
	}
}

func TestNumbersOfOneServerOnPostgreSQLAndMariaDBSayAllBefore(t *testing.T) {
	var s cdc.TxSet
	s.Add(cdc.MariaDBTxID(0, 101, 7))
	if !s.Contains(cdc.MariaDBTxID(0, 101, 3)) || s.Contains(cdc.MariaDBTxID(0, 101, 8)) || s.Contains(cdc.MariaDBTxID(0, 102, 3)) || s.Contains(cdc.MariaDBTxID(1, 101, 3)) {
		t.Errorf("%v holds other than the first seven of one server", s)
	}
	if s := cdc.Everything(10); !s.Contains(cdc.TxID{Seq: 4}) || s.Contains(cdc.TxID{Seq: 11}) || s.Contains(cdc.TxID{}) {
		t.Errorf("%v holds other than all up to 10", s)
	}
	var m cdc.TxSet
	m.Add(cdc.TxID{Source: first, Seq: 7})
	if m.Contains(cdc.TxID{Source: first, Seq: 6}) || !(cdc.TxID{Source: first, Seq: 7}).Before().IsZero() {
		t.Error("a number of MySQL's says something of others")
	}
}

func TestOneSupersedesWhatOtherServersWroteToItsDomain(t *testing.T) {
	for _, c := range []struct {
		name, set string
		by        cdc.TxID
		want      string
	}{
		{"another server of the domain", "0-1-25,1-1-4", cdc.MariaDBTxID(0, 3, 26), "0-3-26,1-1-4"},
		{"the same server", "0-3-20", cdc.MariaDBTxID(0, 3, 26), "0-3-20"},
		{"both", "0-1-25,0-3-20", cdc.MariaDBTxID(0, 3, 26), "0-3-26"},
		{"another domain", "0-1-25", cdc.MariaDBTxID(1, 3, 26), "0-1-25"},
		{"nothing", "", cdc.MariaDBTxID(0, 3, 26), ""},
		{"PostgreSQL", "0/25", cdc.TxID{Seq: 0x26}, "0/25"},
		{
			"MySQL", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5",
			cdc.TxID{Source: "3e11fa47-71ca-11e1-9e33-c80aa9429563", Seq: 6}, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := cdc.ParseTxSet(c.set)
			if err != nil {
				t.Fatal(err)
			}
			if did := set.Supersede(c.by); set.String() != c.want || did != (c.set != c.want) {
				t.Errorf("%s superseded by %v is %v (%v), want %s", c.set, c.by, set, did, c.want)
			}
		})
	}
}

// Servers of one domain that wrote long ago are not named by a member that was made from a later backup.
func TestTipIsTheLastOfEachDomain(t *testing.T) {
	p := cdc.Position{Shown: parse(t, "0-101-5,0-102-9"), Last: parse(t, "0-101-5")}
	p.Pass(cdc.Event{Position: 1, Through: cdc.MariaDBTxID(0, 103, 10)})
	p.Pass(cdc.Event{Position: 2, Through: cdc.MariaDBTxID(2, 103, 1)})
	p.Pass(cdc.Event{Position: 3})
	if p.LSN != 3 || p.Shown.String() != "0-101-5,0-102-9,0-103-10,2-103-1" || p.Tip().String() != "0-103-10,2-103-1" {
		t.Errorf("%d: shown %v, tip %v", p.LSN, p.Shown, p.Tip())
	}
	p = cdc.Position{}
	p.Pass(cdc.Event{Position: 2, Through: cdc.TxID{Source: first, Seq: 2}})
	if p.Tip().String() != first+":2" {
		t.Errorf("tip %v", p.Tip())
	}
}

// Against a plain map of numbers.
func TestSetOperationsAreThoseOfSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, inA := drawSet(t, "a")
		b, inB := drawSet(t, "b")
		clone := a.Clone()
		union := a.Clone()
		union.AddSet(b)
		both, without := a.And(b), a.Without(b)
		covers := true
		for _, source := range []string{first, second} {
			for n := uint64(1); n < 40; n++ {
				id := cdc.TxID{Source: source, Seq: n}
				x, y := inA[id], inB[id]
				covers = covers && (x || !y)
				for what, got := range map[string][2]bool{
					"set": {a.Contains(id), x}, "union": {union.Contains(id), x || y}, "and": {both.Contains(id), x && y}, "without": {without.Contains(id), x && !y},
				} {
					if got[0] != got[1] {
						t.Fatalf("%s of %v and %v: %v is in it: %t", what, a, b, id, got[0])
					}
				}
			}
		}
		if a.Covers(b) != covers {
			t.Fatalf("%v covers %v: %t", a, b, !covers)
		}
		if !clone.Equal(a) {
			t.Fatalf("%v became %v", clone, a)
		}
		text, err := json.Marshal(union)
		var back cdc.TxSet
		if err != nil || json.Unmarshal(text, &back) != nil || !back.Equal(union) || fmt.Sprint(back) != fmt.Sprint(union) {
			t.Fatalf("%v comes back as %v", union, back)
		}
	})
}

func drawSet(t *rapid.T, name string) (cdc.TxSet, map[cdc.TxID]bool) {
	var s cdc.TxSet
	in := make(map[cdc.TxID]bool)
	for range rapid.IntRange(0, 12).Draw(t, name) {
		source := rapid.SampledFrom([]string{first, second}).Draw(t, "source")
		from := rapid.Uint64Range(1, 30).Draw(t, "from")
		to := from + rapid.Uint64Range(0, 8).Draw(t, "more")
		if from == to {
			s.Add(cdc.TxID{Source: source, Seq: from})
		} else {
			s.AddRange(source, from, to)
		}
		for n := from; n <= to; n++ {
			in[cdc.TxID{Source: source, Seq: n}] = true
		}
	}
	return s, in
}

func TestMemberIsBehindWhatItSaidBefore(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	for _, c := range []struct {
		before, now string
		behind      bool
	}{
		{"0/100", "0/100", false},
		{"0/100", "0/108", false},
		{"0/100", "0/F8", true},
		{uuid + ":1-7", uuid + ":1-7:9", false},
		{uuid + ":1-7:9", uuid + ":1-8", true},
		{uuid + ":1-7", "", true},
		{"0-101-7", "0-101-9", false},
		{"0-101-7", "0-101-6", true},
		{"0-101-7", "0-102-8", false}, // another server writes to the domain now
	} {
		before, err := cdc.ParseTxSet(c.before)
		if err != nil {
			t.Fatal(err)
		}
		now, err := cdc.ParseTxSet(c.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := now.Behind(before); got != c.behind {
			t.Errorf("%q after %q: behind is %v", c.now, c.before, got)
		}
	}
}

func TestWhatAServerLacksIsNotWhatItCameWith(t *testing.T) {
	for _, c := range []struct {
		said, applied, position, lacks, ranges string
		count                                  uint64
	}{
		{"0-1-28", "0-1-26", "", "0-1-28", "0-1-27..28", 2},                     // an old primary that was ahead
		{"0-1-30,0-2-27", "0-1-30", "", "0-2-27", "0-2-..27", 27},               // an errant write, however long ago
		{"0-1-30,0-2-27", "0-3-30,0-1-28", "0-1-28", "0-1-30", "0-1-29..30", 2}, // the server was seeded with all up to 28
		{"1-2-5,0-1-9", "0-1-9", "0-1-9", "1-2-5", "1-2-..5", 5},                // in another domain
		{"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7-8", "", "3e11fa47-71ca-11e1-9e33-c80aa9429562:6:9", "3e11fa47-71ca-11e1-9e33-c80aa9429562:6:9", 2},
		{"0-1-3", "0-1-2", "", "0-1-3", "0-1-3", 1},
		{"0-1-3", "0-1-3", "", "", "", 0},
	} {
		server := cdc.Progress{Applied: map[string]cdc.TxSet{cdc.GTIDLane: parse(t, c.applied)}, Position: parse(t, c.position)}
		if lacks := server.Lacks(parse(t, c.said)); lacks.String() != c.lacks || lacks.Ranges() != c.ranges || lacks.Count() != c.count {
			t.Errorf("of %s a server with %s, seeded with %q, lacks %q, %q, %d, want %q, %q, %d", c.said, c.applied, c.position, lacks, lacks.Ranges(), lacks.Count(), c.lacks, c.ranges, c.count)
		}
	}
}

func TestUpstream(t *testing.T) {
	follows := func(self string, from ...string) cdc.Progress { return cdc.Progress{Self: self, Follows: from} }
	has := "0-1-5,0-9-4" // by 1, and 9 long ago
	for _, c := range []struct {
		name    string
		server  cdc.Progress
		others  []cdc.Progress
		set     string
		coming  string
		follows string
	}{
		{"a primary", follows("1"), []cdc.Progress{follows("2", "1")}, "0-1-7,0-2-8", "", ""},
		{"a replica", follows("2", "1"), []cdc.Progress{follows("1"), follows("3", "1")}, "0-1-7,0-3-8", "0-1-7", "1"},
		{"by way of another", follows("3", "2"), []cdc.Progress{follows("1"), follows("2", "1")}, "0-1-7,0-2-8", "0-1-7,0-2-8", "12"},
		{"one of a ring", follows("2", "1"), []cdc.Progress{follows("1", "2"), follows("3", "1")}, "0-1-7,0-3-8", "0-1-7", "1"},
		{"of a server that is not watched", follows("2", "8"), []cdc.Progress{follows("1"), follows("3", "8")}, "0-8-9,0-9-6,0-3-8", "0-8-9,0-9-6", "8"},
		{"of one that is not known yet", follows("2", ""), []cdc.Progress{follows("1")}, "0-1-7,0-3-8", "0-1-7", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := cdc.UpstreamOf(c.server, c.others)
			if coming := u.Coming(parse(t, c.set), parse(t, has)).String(); coming != c.coming {
				t.Errorf("of %s may come %q, want %q", c.set, coming, c.coming)
			}
			for _, id := range []string{"1", "2", "3", "8"} {
				if u.Follows(id) != strings.Contains(c.follows, id) {
					t.Errorf("it follows %s: %v", id, u.Follows(id))
				}
			}
		})
	}
}

func TestWhatAServerHasLeftOverBringsNothing(t *testing.T) {
	server := func(self string, runs bool, from ...string) cdc.Progress {
		return cdc.Progress{Self: self, Follows: from, Lanes: []cdc.Lane{{Name: cdc.GTIDLane, Enabled: runs}}}
	}
	for _, c := range []struct {
		name    string
		servers []cdc.Progress // the first one is the reference
		follows string
	}{
		{"a replica whose replication was stopped", []cdc.Progress{server("1", false), server("2", false, "1")}, ";1"},
		{"the reference was promoted", []cdc.Progress{server("1", false, "2"), server("2", true, "1")}, ";1"},
		{"it was, and its replica does not replicate now", []cdc.Progress{server("1", false, "2"), server("2", false, "1")}, ";1"},
		{"it was, of servers that are not watched", []cdc.Progress{server("1", false, "9"), server("2", true, "1")}, ";1"},
		{"nobody follows it yet", []cdc.Progress{server("1", false, "9"), server("2", true, "9")}, "9;9"},
		{"the reference is a replica, of a server that was promoted", []cdc.Progress{server("1", true, "2"), server("2", false, "1"), server("3", true, "2")}, "2;;2"},
		{"by way of another", []cdc.Progress{server("1", true, "3"), server("2", false, "1"), server("3", true, "2")}, "3;;2"},
		{"a ring", []cdc.Progress{server("1", true, "2"), server("2", true, "1")}, "2;1"},
		{"one that stands still in a chain", []cdc.Progress{server("1", false), server("2", false, "1"), server("3", true, "2")}, ";1;2"},
		{"and the last one is the reference", []cdc.Progress{server("3", true, "2"), server("2", false, "1"), server("1", false)}, "2;1;"},
	} {
		var got []string
		for _, p := range cdc.Promoted(c.servers, c.servers[0].Self) {
			got = append(got, strings.Join(p.Follows, ","))
		}
		if follows := strings.Join(got, ";"); follows != c.follows {
			t.Errorf("%s: they follow %q, want %q", c.name, follows, c.follows)
		}
	}
}

// Of transactions of MariaDB's that a member has and the reference has not only the last was kept, which was read as all up to it.
func TestWhatIsKeptOfASetIsTheSet(t *testing.T) {
	var some cdc.TxSet
	some.AddRange("0-1", 42, 42)
	some.AddRange("0-1", 50, 60)
	some.AddRange("0-2", 1, 7)
	some.AddRange("1-2", 9, 9)
	for _, set := range []cdc.TxSet{some, parse(t, "0-1-7,0-2-1"), parse(t, "0/16B3748"), parse(t, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7-8"), {}} {
		text, err := set.MarshalText()
		var read cdc.TxSet
		if err == nil {
			err = read.UnmarshalText(text)
		}
		if err != nil || !read.Equal(set) {
			t.Errorf("%s is read as %s, %v", text, read.Ranges(), err)
		}
	}
	if text, _ := some.MarshalText(); string(text) != "0-1-42..42,0-1-50..60,0-2-7,1-2-9..9" {
		t.Errorf("it is kept as %s", text)
	}
	for _, wrong := range []string{"0-1-7..5", "0-1-..", "0-1-a..7", "0-1-5..x"} {
		if set, err := cdc.ParseTxSet(wrong); err == nil {
			t.Errorf("%q is read as %s", wrong, set.Ranges())
		}
	}
}

func TestATransactionsNameIsReadAsWhatItIs(t *testing.T) {
	for _, text := range []string{"0/16B3748", "0-102-57", "3e11fa47-71ca-11e1-9e33-c80aa9429562:7", "3e11fa47-71ca-11e1-9e33-c80aa9429562:nightly:7"} {
		if id := cdc.ParseTxID(text); id.String() != text {
			t.Errorf("%s is read as %+v", text, id)
		}
	}
	for _, text := range []string{"", "and by later transactions", "7", "0-102-"} {
		if id := cdc.ParseTxID(text); !id.IsZero() {
			t.Errorf("%q is read as %+v", text, id)
		}
	}
}

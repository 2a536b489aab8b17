package finding_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// begin adds the finding of a transaction, unless it belongs to one that is there.
func begin(b *finding.Book, tx string) *finding.Finding {
	f, k := b.Place(finding.Key{Member: 2, Table: 1, Kind: finding.Extra, Cause: finding.CauseErrant, Tx: tx})
	if f != nil {
		return f
	}
	d := finding.Divergence{Kind: k.Kind, Cause: k.Cause, IntroducedBy: &finding.Introduced{Transaction: tx}}
	if k.Tx != tx {
		d.Detail = finding.AndLater
	}
	return b.Begin(k, d)
}

func TestFindingsThatAreTooManyShareOne(t *testing.T) {
	b := finding.NewBook()
	for n := range 250 {
		begin(b, fmt.Sprint(n))
	}
	all := b.All()
	if len(all) != 101 || all[100].Divergence.Detail != finding.AndLater {
		t.Fatalf("%d findings, the last one %q", len(all), all[len(all)-1].Divergence.Detail)
	}
	if begin(b, "7") != all[7] || begin(b, "1000") != all[100] {
		t.Error("a key is not placed with those that came by the same transaction")
	}
	if b.Remove(all[7]); begin(b, "1001") != all[100] {
		t.Error("the one that is shared does not go on to be")
	}
	b.Remove(all[100])
	b.Remove(all[8])
	if f := begin(b, "1002"); f.Divergence.Detail != "" || f.Number != 102 {
		t.Errorf("with room again the finding is %d %q", f.Number, f.Divergence.Detail)
	}
}

func TestFindingsAreKeptUnderTheirKeys(t *testing.T) {
	before := finding.NewBook()
	for n := range 150 {
		begin(before, fmt.Sprint(n))
	}
	after := finding.NewBook()
	for _, f := range before.All() {
		var kept finding.Finding
		text, err := json.Marshal(f)
		if err == nil {
			err = json.Unmarshal(text, &kept)
		}
		if err != nil {
			t.Fatal(err)
		}
		after.Keep(&kept)
	}
	for tx, number := range map[string]uint64{"3": 4, "99": 100, "149": 101, "new": 101} {
		if f := begin(after, tx); f.Number != number {
			t.Errorf("transaction %s belongs to %d after a restart, want %d", tx, f.Number, number)
		}
	}
}

func TestASuspicionIsNotTakenForAnHeirThatIsGone(t *testing.T) {
	before := finding.NewBook()
	told, first := begin(before, "1"), begin(before, "2")
	if !before.Inherit(told, first) || before.Inherit(told, first) || before.Inherit(told, told) {
		t.Error("a divergence does not wait once for the suspicion to which its key went")
	}
	second := begin(before, "3")
	if changed := before.Bequeath(first, second); len(changed) != 1 || changed[0] != told || !before.Heir(second) {
		t.Errorf("with the key gone on, %d divergences wait for where it went", len(changed))
	}
	if changed := before.Bequeath(second, told); len(changed) != 0 {
		t.Errorf("a divergence waits for itself")
	}

	after := finding.NewBook()
	after.Keep(told) // both suspicions were forgotten
	fresh := begin(after, "4")
	if after.Heir(fresh) || fresh.Number <= second.Number {
		t.Errorf("after a restart a new suspicion is number %d and an heir", fresh.Number)
	}
	if !after.Inherit(told, fresh) || len(told.Into) != 1 {
		t.Errorf("it waits for %v", told.Into)
	}
}

func TestWhatADivergenceWasRemainsOfIt(t *testing.T) {
	f := finding.NewBook().Begin(finding.Key{}, finding.Divergence{State: finding.Open})
	at := time.Unix(1_700_000_000, 0)
	f.Live = 2
	f.Describe(&finding.Ranges{List: []finding.Range{{Changed: 2}}}, at)
	f.Live = 1
	f.Describe(&finding.Ranges{List: []finding.Range{{Changed: 1}}}, at)
	f.Resolve(at)
	want := finding.Divergence{State: finding.Resolved, ResolvedAt: &at, Ranges: []finding.Range{{Changed: 2}}, Keys: 2, Outcome: finding.Healed}
	if diff := cmp.Diff(want, f.Divergence); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNeighboursAreOneRange(t *testing.T) {
	shape := digest.Shape{Table: "t", Columns: []digest.Column{{Name: "id", Class: digest.Int}}, Key: []int{0}}
	key := func(n int) digest.Key {
		k, err := shape.ParseKey(json.RawMessage(fmt.Sprintf(`{"id":%d}`, n)))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	r := finding.Ranges{Shape: shape, Limit: 2, Neighbours: func(last, next digest.Key) (bool, error) {
		return last.Compare(key(3)) < 0 && next.Compare(key(3)) <= 0, nil
	}}
	var more []bool
	for i, n := range []int{1, 2, 3, 7, 9} {
		wants, err := r.Add(key(n), []finding.Kind{finding.Changed, finding.Missing, finding.Extra}[i%3])
		if err != nil {
			t.Fatal(err)
		}
		more = append(more, wants)
	}
	want := []finding.Range{
		{First: json.RawMessage(`{"id":1}`), Last: json.RawMessage(`{"id":3}`), Changed: 1, Missing: 1, Extra: 1},
		{First: json.RawMessage(`{"id":7}`), Last: json.RawMessage(`{"id":7}`), Changed: 1},
	}
	if diff := cmp.Diff(want, r.List); diff != "" || !r.Full {
		t.Errorf("full %t (-want +got)\n%s", r.Full, diff)
	}
	if diff := cmp.Diff([]bool{true, true, true, true, false}, more); diff != "" {
		t.Error(diff)
	}
}

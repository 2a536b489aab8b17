package cdctest

import (
	"testing"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// sets is a transaction that gives rows of table a a value; 0 deletes them.
func sets(value byte, keys ...byte) *cdc.Transaction {
	tx := new(cdc.Transaction)
	for _, k := range keys {
		c := cdc.Change{Table: 1, Op: cdc.Update, Key: digest.Key{k}, Row: digest.Row{Digest: digest.Digest{value}}}
		if value == 0 {
			c = cdc.Change{Table: 1, Op: cdc.Delete, Key: digest.Key{k}}
		}
		tx.Changes = append(tx.Changes, c)
	}
	return tx
}

func TestPartOfRowsIsWholeTransactions(t *testing.T) {
	after := []*cdc.Transaction{sets(1, 1, 2), sets(2, 3, 4), sets(3, 2, 3), sets(0, 1)}
	for _, test := range []struct {
		read           map[byte]byte
		inOrder, inAny bool
	}{
		{map[byte]byte{}, true, true},
		{map[byte]byte{1: 1, 2: 1}, true, true},
		{map[byte]byte{3: 2, 4: 2}, false, true},
		{map[byte]byte{1: 1, 2: 3, 3: 3, 4: 2}, true, true},
		{map[byte]byte{2: 1, 3: 2, 4: 2}, false, true},
		{map[byte]byte{2: 3, 3: 3, 4: 2}, true, true},
		{map[byte]byte{1: 1}, false, false},                   // half of the first
		{map[byte]byte{1: 1, 2: 3, 3: 3}, false, false},       // the third without the second, on which it builds
		{map[byte]byte{2: 3, 3: 2, 4: 2}, false, false},       // half of the third
		{map[byte]byte{1: 1, 2: 1, 5: 1}, false, false},       // a row of nobody's
		{map[byte]byte{1: 2, 2: 2}, false, false},             // a value of nobody's
		{map[byte]byte{1: 1, 2: 1, 3: 2}, false, false},       // half of the second
		{map[byte]byte{1: 0, 2: 1, 3: 2, 4: 2}, false, false}, // a row that was deleted
	} {
		read := rows{}
		for k, value := range test.read {
			read[place{1, string([]byte{k})}] = digest.Row{Digest: digest.Digest{value}}
		}
		for anyOrder, want := range map[bool]bool{false: test.inOrder, true: test.inAny} {
			if got := (seen{rows: read}).shows(rows{}, after, anyOrder); got != want {
				t.Errorf("%v, in any order: %v: shown %v, want %v", test.read, anyOrder, got, want)
			}
		}
	}
}

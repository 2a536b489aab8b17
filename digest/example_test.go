package digest_test

import (
	"fmt"

	"github.com/lockstep-cdc/lockstep/digest"
)

// The same row has the same digest however a server spells its values, and a key that sorts as its values do.
func Example() {
	shape := digest.Shape{
		Table:   "public.orders",
		Columns: []digest.Column{{Name: "id", Class: digest.Int}, {Name: "total", Class: digest.Decimal}},
		Key:     []int{0},
	}
	// The secret keeps others from guessing rows from their digests.
	e, err := digest.NewEncoder(digest.NewHasher([32]byte{1, 2, 3}), shape)
	if err != nil {
		panic(err)
	}
	encode := func(id int64, total string) (digest.Key, digest.Row) {
		e.Reset()
		e.Int(0, id)
		if err := e.Decimal(1, []byte(total)); err != nil {
			panic(err)
		}
		var row digest.Row
		if err := e.Row(&row); err != nil {
			panic(err)
		}
		key, err := e.AppendKey(nil)
		if err != nil {
			panic(err)
		}
		return key, row
	}
	key, row := encode(-7, "12.5")
	_, same := encode(-7, "12.500")
	later, other := encode(1201, "12.5")
	fmt.Println(row.Digest == same.Digest, row.Digest == other.Digest, key.Compare(later) < 0)
	text, err := shape.KeyJSON(key)
	fmt.Println(string(text), err)
	// Output:
	// true false true
	// {"id":-7} <nil>
}

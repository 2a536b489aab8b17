package merkle_test

import (
	"fmt"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// Sums of row digests can be added and taken off: what a replica has yet to replay is no difference.
func ExampleSum() {
	row := func(b byte) digest.Digest { return digest.Digest{15: b} }
	reference := merkle.Of(row(1)).Add(merkle.Of(row(9))) // the second row was updated from 2 to 9
	replica := merkle.Of(row(1)).Add(merkle.Of(row(2)))   // which it has yet to see
	inFlight := merkle.Delta(row(2), row(9))
	fmt.Println("differ:", reference != replica)
	fmt.Println("residual:", reference.Sub(inFlight).Sub(replica).IsZero())
	// Output:
	// differ: true
	// residual: true
}

// A proof shows what a range held to somebody who has nothing but the root.
func ExampleTree_Prove() {
	ranges := merkle.NewPartition([]digest.Key{digest.Key("g"), digest.Key("p")})
	tree := merkle.NewTree(ranges, []merkle.Sum{{Lo: 1, Rows: 10}, {Lo: 2, Rows: 20}, {Lo: 3, Rows: 30}})
	root := tree.Root()
	p := tree.Prove(ranges.Find(digest.Key("hello")))
	leads, err := p.Root()
	fmt.Printf("%s to %s: %d rows %v %v\n", p.Start, p.End, p.Sum.Rows, leads == root, err)
	p.Sum.Rows++
	leads, err = p.Root()
	fmt.Println(leads == root, err)
	// Output:
	// g to p: 20 rows true <nil>
	// false <nil>
}

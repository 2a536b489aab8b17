package merkle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/lockstep-cdc/lockstep/digest"
)

// AppendBinary appends the encoding of a tree, from which ParseTree makes it again: the number of ranges; then each range's
// digest and, but for the last range, the key that ends it, as the number of bytes that it shares with the key before, the
// number of the others, and those. Numbers are unsigned varints.
func (t *Tree) AppendBinary(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(t.ranges.Len()))
	for i, s := range t.sums {
		dst = s.AppendBinary(dst)
		end := t.ranges.End(i)
		if end == nil {
			break
		}
		shared := commonPrefix(t.ranges.Start(i), end)
		dst = binary.AppendUvarint(dst, uint64(shared))
		dst = binary.AppendUvarint(dst, uint64(len(end)-shared))
		dst = append(dst, end[shared:]...)
	}
	return dst
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

var errTree = errors.New("parse tree: it is cut off or damaged")

// ParseTree reads what [Tree.AppendBinary] wrote.
func ParseTree(b []byte) (*Tree, error) {
	n, b, err := uvarint(b)
	if err != nil || n == 0 || n > uint64(len(b)/sumSize) {
		return nil, errTree
	}
	sums, boundaries := make([]Sum, 0, n), make([]digest.Key, 0, n-1)
	var last digest.Key
	for i := range n {
		if len(b) < sumSize {
			return nil, errTree
		}
		s, err := ParseSum(b[:sumSize])
		if err != nil {
			return nil, err
		}
		sums, b = append(sums, s), b[sumSize:]
		if i+1 == n {
			break
		}
		var shared, rest uint64
		if shared, b, err = uvarint(b); err == nil {
			rest, b, err = uvarint(b)
		}
		if err != nil || shared > uint64(len(last)) || rest > uint64(len(b)) {
			return nil, errTree
		}
		key := append(last[:shared:shared], b[:rest]...)
		if bytes.Compare(last, key) >= 0 {
			return nil, fmt.Errorf("parse tree: range %d does not begin after the one before", i+1)
		}
		boundaries, last, b = append(boundaries, key), key, b[rest:]
	}
	if len(b) > 0 {
		return nil, errTree
	}
	return NewTree(NewPartition(boundaries), sums), nil
}

// uvarint takes a number off the front of b.
func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > math.MaxInt32 {
		return 0, nil, errTree
	}
	return v, b[n:], nil
}

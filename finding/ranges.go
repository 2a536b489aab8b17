package finding

import (
	"encoding/json"

	"github.com/lockstep-cdc/lockstep/digest"
)

// MaxRanges bounds the ranges that a divergence lists; the rest is counted only.
const MaxRanges = 1000

// Range is a run of neighbouring keys that all differ: no key that is in step lies between First and Last, which are
// inclusive and exist on at least one side.
type Range struct {
	First   json.RawMessage `json:"first_key"` // {"id":500000}
	Last    json.RawMessage `json:"last_key"`
	Changed int64           `json:"changed"`
	Missing int64           `json:"missing"`
	Extra   int64           `json:"extra"`
}

// Ranges joins neighbouring keys to ranges.
type Ranges struct {
	Shape digest.Shape
	Limit int // of the ranges
	// Neighbours reports whether no row that is in step lies between a key and the one that comes next.
	Neighbours func(last, next digest.Key) (bool, error)

	List []Range
	Full bool // there were more
	last digest.Key
}

// Add takes the next key, in ascending order; it reports whether it wants more.
func (r *Ranges) Add(k digest.Key, kind Kind) (bool, error) {
	text, err := r.Shape.KeyJSON(k)
	if err != nil {
		return false, err
	}
	neighbours := false
	if r.last != nil {
		if neighbours, err = r.Neighbours(r.last, k); err != nil {
			return false, err
		}
	}
	if !neighbours {
		if len(r.List) == r.Limit {
			r.Full = true
			return false, nil
		}
		r.List = append(r.List, Range{First: text})
	}
	r.List[len(r.List)-1].extend(text, kind)
	r.last = append(r.last[:0], k...)
	return true, nil
}

func (r *Range) extend(last json.RawMessage, kind Kind) {
	r.Last = last
	switch kind {
	case Changed:
		r.Changed++
	case Missing:
		r.Missing++
	case Extra:
		r.Extra++
	}
}

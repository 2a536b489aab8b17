package cdctest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Sort gives a table an order of its keys that only the server knows, as that of a collation is. It is called before
// lockstep has seen the table.
func (s *Server) Sort(table string, order func(a, b int) int) {
	s.do(func() { s.tables[table].order, s.tables[table].compare = cdc.ServerOrder, order })
}

// Unsort makes a table one that can be read whole only. It is called before lockstep has seen the table.
func (s *Server) Unsort(table string) {
	s.do(func() { s.tables[table].order, s.tables[table].compare = cdc.Unordered, Scrambled(s.Name) })
}

// Descending is an order of keys.
func Descending(a, b int) int { return cmp.Compare(b, a) }

// Scrambled is an order that has nothing to do with that of the keys; each salt has its own.
func Scrambled(salt string) func(a, b int) int {
	place := func(key int) uint64 {
		h := fnv.New64a()
		fmt.Fprint(h, salt, key)
		return h.Sum64()
	}
	return func(a, b int) int { return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b)) }
}

// pick returns the keys of the rows that a part names, in the server's order, and those that are asked for by their keys in
// none.
func (x *Source) pick(t *table, e cdc.Epoch, p cdc.Part, rows map[int]Row) ([]int, error) {
	if t.order == cdc.Unordered && (p.After != nil || p.Through != nil || p.Limit > 0 || p.Keys != nil) {
		return nil, fmt.Errorf("table %s cannot be read in parts", t.name)
	}
	if p.Keys != nil {
		var keys []int
		for _, k := range p.Keys {
			n, err := number(e.Shape, k)
			if err != nil {
				return nil, err
			}
			if _, there := rows[n]; there {
				keys = append(keys, n)
			}
		}
		slices.SortFunc(keys, Scrambled(t.name))
		return slices.Compact(keys), nil
	}
	keys := slices.Collect(maps.Keys(rows))
	for _, b := range []struct {
		key     digest.Key
		outside func(order int) bool
	}{
		{p.After, func(order int) bool { return order <= 0 }},
		{p.Through, func(order int) bool { return order > 0 }},
	} {
		if b.key == nil {
			continue
		}
		bound, err := number(e.Shape, b.key)
		if err != nil {
			return nil, err
		}
		keys = slices.DeleteFunc(keys, func(key int) bool { return b.outside(t.compare(key, bound)) })
	}
	slices.SortFunc(keys, t.compare)
	if p.Limit > 0 && len(keys) > p.Limit {
		keys = keys[:p.Limit]
	}
	return keys, nil
}

// number is the key of a row that a digest key is of.
func number(s digest.Shape, k digest.Key) (int, error) {
	text, err := s.KeyJSON(k)
	if err != nil {
		return 0, err
	}
	var key struct{ ID int }
	if err := json.Unmarshal(text, &key); err != nil {
		return 0, fmt.Errorf("key %s: %w", text, err)
	}
	return key.ID, nil
}

package store

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
)

// Watched returns, by name, what is kept of the members of the group that have been read before.
func (g *Group) Watched() (map[string]align.MemberRecord, error) {
	watched := make(map[string]align.MemberRecord)
	prefix := groupKey([]byte{kindName}, nameOfMember, g.id)
	err := g.store.each(prefix, func(name, number []byte) error {
		id := cdc.MemberID(uint16(number[2])<<8 | uint16(number[3]))
		v, closer, err := g.store.db.Get(memberKey(nil, kindMember, g.id, id))
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var r align.MemberRecord
		if err := parseJSON("member "+string(name), v, &r); err != nil {
			return errors.Join(damaged(g.store.dir, err), closer.Close())
		}
		watched[string(name)] = r
		return closer.Close()
	})
	return watched, err
}

// Reference returns the name of the member that the others were held against last, or "".
func (g *Group) Reference() (string, error) {
	v, err := g.get(groupKey(nil, kindGroup, g.id))
	return string(v), err
}

// SetReference says which member the others are held against from now on.
func (g *Group) SetReference(name string) error {
	return g.set(groupKey(nil, kindGroup, g.id), []byte(name))
}

// loadReference tells the ledger which member the others were held against when what it is loaded from was kept.
func (g *Group) loadReference(saved *align.Saved) error {
	name, err := g.Reference()
	if err != nil || name == "" {
		return err
	}
	saved.Reference, err = g.MemberID(name)
	return err
}

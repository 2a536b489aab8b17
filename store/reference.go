package store

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/finding"
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

// SetReference says which member the others are held against from now on. If it was another one before, all that is
// kept in terms of that one's log is forgotten, and open divergences are resolved: they are found anew if they persist.
// It is durable on return.
func (g *Group) SetReference(name string, resolve func(*finding.Finding)) error {
	before, err := g.Reference()
	if err != nil || before == name {
		return err
	}
	if before != "" {
		if err := g.forget(resolve); err != nil {
			return err
		}
	}
	if err := g.set(groupKey(nil, kindGroup, g.id), []byte(name)); err != nil {
		return err
	}
	return g.Commit()
}

// forgetKeys forgets all that is in terms of the reference's log.
func (g *Group) forgetKeys() error {
	for _, k := range keyKinds {
		if k.scope == ofStore || k.stays {
			continue
		}
		if err := g.deletePrefix(groupKey(nil, k.first, g.id)); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) forget(resolve func(*finding.Finding)) error {
	if err := g.forgetKeys(); err != nil {
		return err
	}
	var saved align.Saved
	if err := g.loadFindings(&saved); err != nil {
		return err
	}
	for _, f := range saved.Findings {
		if !f.Confirmed {
			if err := g.DeleteFinding(f.Number); err != nil {
				return err
			}
			continue
		}
		resolve(f)
		if err := g.SetFinding(f); err != nil {
			return err
		}
		g.Notify()
	}
	return nil
}

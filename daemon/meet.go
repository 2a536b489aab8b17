package daemon

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// Who a member is has to be known before anything else is asked of its server: by a wrong dsn, that may be another member's.

// meetWithin is how long members may take to say who they are before lockstep goes on without.
const meetWithin = 5 * time.Second

// meetAll asks members who they are, all at once; a physical standby is only scanned. Of one that does not answer it is known from
// before whether it was only scanned. With strict, each has to answer and to be fit.
func (g *Group) meetAll(ctx context.Context, members []*member, scanned map[string]bool, strict bool) error {
	var asking sync.WaitGroup
	for _, m := range members {
		asking.Go(func() { m.meet(ctx) })
	}
	asking.Wait()
	for _, m := range members {
		switch only, known := scanned[m.Name]; {
		case m.said != nil:
			m.ScanOnly = m.ScanOnly || m.said.Standby
		case strict:
			return m.silent
		case known:
			m.ScanOnly = m.ScanOnly || only
		default:
			g.daemon.log.Warn("member does not answer; lockstep waits for it", "group", g.Name(), "member", m.Name, "err", m.silent.Error())
		}
	}
	if !strict {
		return nil
	}
	return g.fit(ctx, members)
}

// meet asks the member who it is.
func (m *member) meet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, meetWithin)
	defer cancel()
	switch server, err := m.Source.Server(ctx); {
	case cdc.IsSetup(err):
		m.silent = &StartError{Err: err}
	case err != nil:
		m.silent = &StartError{Err: fmt.Errorf("%w: start that server, or correct its dsn", err), Unreachable: true}
	default:
		m.said = &server
	}
}

// introduce notes who members have said that they are. The lock is held.
func (g *Group) introduce(members []*member) {
	for _, m := range members {
		if m.said != nil {
			g.servers[m.Name] = *m.said
		}
	}
}

// fit refuses members of which one cannot be watched as it is set up. They are entered in their order, so that it is the same
// one each time.
func (g *Group) fit(ctx context.Context, members []*member) error {
	g.mu.Lock()
	g.introduce(members)
	g.mu.Unlock()
	for _, m := range members {
		if err := g.enter(m.Name, *m.said); err != nil {
			return &StartError{Err: err}
		}
		if err := fitTables(ctx, g.config(), m.Member); err != nil {
			return err
		}
	}
	for _, m := range members {
		if err := g.orphan(m.Name); err != nil {
			return &StartError{Err: err}
		}
	}
	return nil
}

// enter notes who a member says that it is. It refuses one that is the same server as another, before anything is asked of that: the
// server is the member's that it was when it was watched last, whatever others come to say, and if it was neither's or both's, the
// first one's in the configuration. A member that has not said yet who it is stands for the server that it was.
func (g *Group) enter(member string, s cdc.Server) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.config()
	if c.Member(member) == nil {
		return fmt.Errorf("%s is no member of group %s any more", member, g.Name())
	}
	g.servers[member] = s
	err := g.twin(c, g.servers, member)
	if err == nil {
		g.owners[member] = s
	}
	return err
}

// twin refuses a member that is the same server as another one, by who members say that they are. The lock is held.
func (g *Group) twin(c *config.Group, said map[string]cdc.Server, member string) error {
	s, before := said[member], true // in the configuration
	owner := preflight.Same(g.owners[member], s)
	for _, m := range c.Members {
		if m.Name == member {
			before = false
			continue
		}
		other, says := said[m.Name]
		if !says {
			other = g.owners[m.Name]
		}
		if !preflight.Same(other, s) {
			continue
		}
		if owns := preflight.Same(g.owners[m.Name], s); owns && !owner || owns == owner && before {
			return preflight.Twins(m.Name, member, says)
		}
	}
	return nil
}

// contenders are the members, as who they say now that they are, without those that are refused for being the same server as another one.
// The error says so of one of these.
func (g *Group) contenders(c *config.Group, members []member, fresh []*member) (list []member, refused error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	said := maps.Clone(g.servers)
	for _, m := range fresh {
		delete(said, m.Name) // that was by another connection
		if m.said != nil {
			said[m.Name] = *m.said
		}
	}
	for _, m := range members {
		if err := g.twin(c, said, m.Name); err != nil {
			refused = err
			continue
		}
		if s, says := said[m.Name]; says {
			m.said, m.silent = &s, nil
		}
		list = append(list, m)
	}
	return list, refused
}

// orphan refuses a member that is a physical standby of a server that is no member, which is known once all were entered.
func (g *Group) orphan(member string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.servers) < len(g.config().Members) {
		return nil
	}
	var roll preflight.Roll
	for name, s := range g.servers {
		if name == member || !s.Standby {
			_ = roll.Add(name, s) // see enter
		}
	}
	if roll.Orphan() == "" {
		return nil
	}
	return fmt.Errorf("member %s is a physical standby of a server that is no member of the group: add its primary, or remove it", member)
}

// outdate has a member be watched by connections of their own kind: it is to be asked anew who it is. The lock is held.
func (g *Group) outdate(member string) {
	g.outdated[member] = true
	select {
	case g.outdates <- struct{}{}:
	default: // some is already
	}
}

// admit says whether a member may be watched as who it says that it is, in the way in which it is. One that has become a physical
// standby, or is none any more, is to be watched in another way.
func (g *Group) admit(member string, s cdc.Server) error {
	err := g.enter(member, s)
	if err == nil {
		err = g.orphan(member)
	}
	if err != nil {
		return &cdc.SetupError{Problem: err.Error()}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if m.Name == member && m.ScanOnly != (m.as.ScanOnly || s.Standby) {
			g.outdate(member)
			return fmt.Errorf("member %s is %s now, and is watched in another way", member, map[bool]string{true: "a physical standby", false: "no physical standby"}[s.Standby])
		}
	}
	return nil
}

// recall notes who members were, as far as it is not known better, and says which of them were only scanned.
func (g *Group) recall(watched map[string]align.MemberRecord) (scanned map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	scanned = make(map[string]bool)
	for name, r := range watched {
		scanned[name] = r.ScanOnly
		if _, known := g.owners[name]; !known && r.Server != (cdc.Server{}) && g.config().Member(name) != nil {
			g.owners[name] = r.Server
		}
	}
	return scanned
}

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/monitor"
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

// fit refuses members of which one cannot be watched as it is set up. They are settled in their order, so that it is the same
// one each time.
func (g *Group) fit(ctx context.Context, members []*member) error {
	proofs := preflight.ProveAll(ctx, claims(members))
	g.mu.Lock()
	g.introduce(members)
	g.mu.Unlock()
	for _, m := range members {
		if err := g.settle(m.Member, *m.said, proofs); err != nil {
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

// claims are who members have said that they are.
func claims(members []*member) (list []preflight.Claim) {
	for _, m := range members {
		if m.said != nil {
			list = append(list, preflight.Claim{Member: m.Name, Server: *m.said, Beacons: m.Source})
		}
	}
	return list
}

// enter notes who a member says that it is, each time that it says so. It refuses one that is the same server as another, or may be,
// before anything is asked of that. Of those that say the same one enters at a time: it is told from all that were let in before.
func (g *Group) enter(ctx context.Context, m monitor.Member, s cdc.Server) error {
	door := g.door(s)
	select {
	case door <- struct{}{}:
		defer func() { <-door }()
	case <-ctx.Done():
		return ctx.Err()
	}
	alike := g.alike(m.Name, s)
	proofs := make(preflight.Proofs)
	proofs.Prove(ctx, preflight.Claim{Member: m.Name, Server: s, Beacons: m.Source}, claims(alike)...)
	for _, o := range alike {
		if proofs.Unknown(m.Name, o.Name) {
			g.doubt(ctx, o)
		}
	}
	return g.settle(m, s, proofs)
}

// door is held by who enters as a server.
func (g *Group) door(s cdc.Server) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := s.SystemID + " " + s.Database
	if g.doors[id] == nil {
		g.doors[id] = make(chan struct{}, 1)
	}
	return g.doors[id]
}

// alike are the other members that are watched and have said to be the same server.
func (g *Group) alike(name string, s cdc.Server) (list []*member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if said := g.servers[m.Name]; m.Name != name && preflight.Alike(said, s) {
			m.said = &said
			list = append(list, &m)
		}
	}
	return list
}

// doubt has a member that cannot be asked be connected to anew, so that it is watched as nobody until it has said who it is, and nobody who
// goes by its name is refused for its sake. It is not asked who it is: that is for who watches it.
func (g *Group) doubt(ctx context.Context, m *member) {
	asking, cancel := context.WithTimeout(ctx, meetWithin)
	defer cancel()
	if _, err := m.Source.Sees(asking, cdc.NewBeacon()); err == nil || ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.ContainsFunc(g.members, func(now member) bool { return now.Source == m.Source }) {
		g.outdate(m.Name)
	}
}

// settle notes who a member says that it is, and what tells it from others that say the same, or refuses it.
func (g *Group) settle(m monitor.Member, s cdc.Server, proofs preflight.Proofs) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.config()
	if c.Member(m.Name) == nil {
		return fmt.Errorf("%s is no member of group %s any more", m.Name, g.Name())
	}
	g.servers[m.Name] = s
	err := g.twin(c, g.servers, proofs, m.Name)
	switch {
	case err == nil:
		g.owners[m.Name], g.letIn[m.Name] = s, true
	case errors.Is(err, preflight.ErrOne):
		g.letIn[m.Name] = false
	}
	return err
}

// twin refuses a member that is the same server as another one, or may be, by who members say that they are. The server is the member's
// that it was when it was watched last, whatever others come to say; if it was neither's or both's, it is whose it is now, and then the
// first one's in the configuration. A member that has not said yet who it is stands for the server that it was. The lock is held.
func (g *Group) twin(c *config.Group, said map[string]cdc.Server, proofs preflight.Proofs, member string) error {
	s, before := said[member], true // in the configuration
	owner := preflight.Alike(g.owners[member], s)
	for _, m := range c.Members {
		if m.Name == member {
			before = false
			continue
		}
		other, says := said[m.Name]
		if !says {
			other = g.owners[m.Name]
		}
		if !preflight.Alike(other, s) {
			continue
		}
		why := preflight.Unanswered(m.Name, member)
		if says {
			why = proofs.Twins(m.Name, member)
		}
		owns := preflight.Alike(g.owners[m.Name], s)
		switch {
		case why == nil: // they are two servers
		case owner && !owns: // the server was this member's
		case owner == owns && !g.letIn[m.Name] && (g.letIn[member] || !before):
		default:
			return why
		}
	}
	return nil
}

// introduced are who the members have said to be, those that are fresh by their new connections.
func (g *Group) introduced(fresh []*member) map[string]cdc.Server {
	g.mu.Lock()
	defer g.mu.Unlock()
	said := maps.Clone(g.servers)
	for _, m := range fresh {
		delete(said, m.Name) // that was by another connection
		if m.said != nil {
			said[m.Name] = *m.said
		}
	}
	return said
}

// contenders are the members, as who they say now that they are, without those that are refused for being the same server as another one.
// The error says so of one of these.
func (g *Group) contenders(ctx context.Context, c *config.Group, members []member, fresh []*member) (list []member, refused error) {
	said := g.introduced(fresh)
	var saying []*member
	for i := range members {
		m := members[i]
		if s, says := said[m.Name]; says {
			m.said, m.silent = &s, nil
			saying = append(saying, &m)
		}
		list = append(list, m)
	}
	proofs := preflight.ProveAll(ctx, claims(saying))
	g.mu.Lock()
	defer g.mu.Unlock()
	list = slices.DeleteFunc(list, func(m member) bool {
		err := g.twin(c, said, proofs, m.Name)
		refused = cmp.Or(err, refused)
		return err != nil
	})
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
			_ = roll.Add(name, s) // see twin
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
func (g *Group) admit(ctx context.Context, as monitor.Member, s cdc.Server) error {
	err := g.enter(ctx, as, s)
	if err == nil {
		err = g.orphan(as.Name)
	}
	if err != nil {
		return &cdc.SetupError{Problem: err.Error()}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if m.Name == as.Name && m.ScanOnly != (m.as.ScanOnly || s.Standby) {
			g.outdate(m.Name)
			return fmt.Errorf("member %s is %s now, and is watched in another way", m.Name, map[bool]string{true: "a physical standby", false: "no physical standby"}[s.Standby])
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

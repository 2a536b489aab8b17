package monitor

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/scan"
	"github.com/lockstep-cdc/lockstep/store"
)

// Open opens the group's part of the store and loads its ledger. Nothing runs until Run.
func Open(opt Options, st *store.Store) (_ *Group, err error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Clocks == nil {
		opt.Clocks = machineClocks()
	}
	state, err := st.Group(opt.Name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil { // a store whose parts are open cannot be closed
			err = errors.Join(err, state.Close())
		}
	}()
	g := &Group{
		log:    opt.Logger.With("group", opt.Name),
		clocks: opt.Clocks,
		state:  state,
		feeds:  make(map[cdc.MemberID]*feed),
		tables: make(map[string]cdc.TableID),

		unwatched: make(map[string]string),
		lost:      make(map[string]time.Time),
		surplus:   make(map[string]bool),
		events:    make(chan arrival),
		commands:  make(chan command),
		ended:     make(chan struct{}),
		broken:    make(chan error, 1),
		faults:    newFaults(),

		opened:   time.Now(),
		recorder: recorder{gaps: make(map[[2]string]*gap), told: make(map[string]telling)},
	}
	g.setOptions(opt)
	g.changed = g.opened
	names := make(map[cdc.MemberID]string)
	for _, m := range opt.Members {
		id, err := state.MemberID(m.Name)
		if err != nil {
			return nil, err
		}
		names[id] = m.Name
		g.order = append(g.order, id)
		g.feeds[id] = g.newFeed(id, m)
		if m.Name == opt.Reference {
			g.ref = id
		}
	}
	if err := g.load(names, digest.NewHasher(st.Secret())); err != nil {
		return nil, fmt.Errorf("group %s: %w", opt.Name, err)
	}
	return g, nil
}

// opt is what is watched. It may be called from any goroutine; the result is never changed, only replaced.
func (g *Group) opt() *Options { return g.options.Load() }

func (g *Group) setOptions(opt Options) {
	opt.PartsFrom = cmp.Or(opt.PartsFrom, partsFrom)
	g.options.Store(&opt)
	g.recorder.plan = opt.Evidence
}

func (g *Group) newFeed(id cdc.MemberID, m Member) *feed {
	f := &feed{
		Member: m, id: id, credit: make(chan struct{}, inCredit), decodable: make(chan struct{}), redefine: make(chan struct{}, 1),
		reading: make(chan struct{}, 1), pacer: scan.NewPacer(g.opt().Scrub.Settings), later: make(map[cdc.TableID]pause), undrilled: make(map[cdc.TableID]pause),
	}
	f.duties = g.dutiesOf(f)
	f.canary = g.newCanary(f)
	return f
}

func (g *Group) load(names map[cdc.MemberID]string, hasher *digest.Hasher) error {
	saved, err := g.state.Load()
	if err != nil {
		return err
	}
	if err := g.state.SetReference(g.opt().Reference); err != nil {
		return err
	}
	g.ledger, err = align.Load(align.Options{
		Group:       g.opt().Name,
		Members:     names,
		Reference:   g.ref,
		Budget:      func(table string) time.Duration { return g.opt().Budget(table) },
		Hasher:      hasher,
		NewID:       NewID,
		RangeRows:   g.opt().RangeRows,
		MaxInFlight: g.opt().MaxInFlight,
		ScanOnly:    g.scanOnly(),
		ScrubEvery:  g.scrubEvery,
		Sparse:      g.sparse,
		Expected:    g.expected,
		Now:         time.Now(),
	}, g.state, saved)
	if err != nil {
		return err
	}
	g.ledger.At(time.Now())
	g.looked = g.clocks()
	for d := range g.ledger.Open() {
		g.recorder.told[d.ID] = telling{} // what of it was recorded is not known any more
	}
	for id, e := range g.ledger.Epochs() {
		g.tables[e.Shape.Table] = id
	}
	if err := g.dropUnwatched(); err != nil {
		return err
	}
	g.publish()
	return nil
}

func (g *Group) scanOnly() map[cdc.MemberID]bool {
	only := make(map[cdc.MemberID]bool)
	for id, f := range g.feeds {
		only[id] = f.ScanOnly
	}
	return only
}

// scrubEvery is how often the rows of a table are to be read again; 0: never.
func (g *Group) scrubEvery(table string) time.Duration {
	every := g.opt().Scrub.Every
	if every == nil {
		return 0
	}
	return every(table)
}

func (g *Group) expected(d *finding.Divergence, s digest.Shape) bool {
	expected := g.opt().Expected
	return expected != nil && expected(d, s)
}

// sparse reports whether no digests of a table's rows are kept.
func (g *Group) sparse(table string) bool {
	rowIndex := g.opt().RowIndex
	return rowIndex != nil && !rowIndex(table)
}

// Close gives up what was not committed.
func (g *Group) Close() error { return g.state.Close() }

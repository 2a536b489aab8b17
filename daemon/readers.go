package daemon

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/monitor"
)

// Readers are the members of a group, of which rows are read and nothing else is: no slot, no stream, no store.
type Readers struct {
	Reference string
	Members   map[string]cdc.Member // the reference among them
}

// OpenReaders finds the reference of a group and opens it and the named members, or all if none is named.
func OpenReaders(ctx context.Context, g *config.Group, only []string, log *slog.Logger) (*Readers, error) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails: crypto/rand
	hasher := digest.NewHasher(secret)
	r := &Readers{Reference: g.Reference, Members: map[string]cdc.Member{}}
	var candidates []member
	for _, m := range g.Members {
		if r.Reference != "" && m.Name != r.Reference && len(only) > 0 && !slices.Contains(only, m.Name) {
			continue // the others are needed to find the reference
		}
		scanOnly := m.ScanOnly
		m.ScanOnly = true
		s, err := newSource(g, &m, hasher, log, nil)
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("group %s: member %s: %w", g.Name, m.Name, err)
		}
		r.Members[m.Name] = s
		candidates = append(candidates, member{Member: monitor.Member{Name: m.Name, Source: s, ScanOnly: scanOnly}})
	}
	if r.Reference != "" {
		return r, nil
	}
	found, err := findReference(ctx, candidates, "")
	if err != nil {
		r.Close()
		return nil, err
	}
	r.Reference = found.name
	return r, nil
}

// Close ends all connections.
func (r *Readers) Close() {
	for _, m := range r.Members {
		m.Close()
	}
}

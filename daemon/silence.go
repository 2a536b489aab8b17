package daemon

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// settings are those by which less is told, or later, or to fewer, without secrets. Keys of rows are spelled as in all evidence.
func (d *Daemon) settings() (list []evidence.Setting) {
	add := func(group, what string, values ...string) {
		if len(values) > 0 {
			list = append(list, evidence.Setting{Group: group, What: what, Values: values})
		}
	}
	c := d.config()
	for i := range c.Groups {
		g := &c.Groups[i]
		add(g.Name, "lag_budget", g.Budget.String())
		add(g.Name, "tables", tablesOf(g)...)
		add(g.Name, "overrides", overridesOf(g)...)
		add(g.Name, "scrub", scrubOf(g))
		add(g.Name, "expected_writes", d.expectedOf(g)...)
		if c := g.Canary; c.Table != "" {
			add(g.Name, "canary", fmt.Sprintf("%s every %v%s", c.Table, c.Every, named(" into ", c.Members)))
		}
	}
	a := &c.Alerts
	var receivers []string
	for _, r := range a.Receivers {
		m := r.Match
		receivers = append(receivers, r.Kind+" "+r.Name+d.address(r.URL.Reveal())+
			named(" of severity ", m.Severities)+named(" of groups ", m.Groups)+named(" of members ", m.Members)+named(" of tables ", m.Tables))
	}
	for _, m := range a.Alertmanager {
		receivers = append(receivers, "alertmanager"+d.address(m.URL))
	}
	add("", "receivers", receivers...)
	if a.Watchdog {
		add("", "watchdog", "on")
	}
	return list
}

func named(what string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return what + strings.Join(list, ", ")
}

// address names a host. The rest of an address may be a token: it has a keyed hash, by which another one shows.
func (d *Daemon) address(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	secret := d.store.Secret()
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte("address\x00" + text))
	return " at " + u.Scheme + "://" + u.Host + " (hmac-sha256:" + hex.EncodeToString(h.Sum(nil)[:8]) + ")"
}

func tablesOf(g *config.Group) (list []string) {
	for _, p := range g.Tables.Include {
		list = append(list, "include "+p)
	}
	for _, p := range g.Tables.Exclude {
		list = append(list, "exclude "+p)
	}
	return list
}

func overridesOf(g *config.Group) (list []string) {
	for _, o := range g.Tables.Overrides {
		line := o.Table + named(": exclude_columns ", o.ExcludeColumns)
		if o.LagBudget > 0 {
			line += ": lag_budget " + o.LagBudget.String()
		}
		if o.ScrubEvery != 0 {
			line += ": scrub_every " + orOff(o.ScrubEvery)
		}
		if o.NoRowIndex {
			line += ": row_index off"
		}
		list = append(list, line)
	}
	return list
}

func orOff(every time.Duration) string {
	if every <= 0 {
		return "off"
	}
	return every.String()
}

func scrubOf(g *config.Group) string {
	line := "every " + orOff(cmp.Or(g.Scrub.Every, config.DefaultScrubEvery))
	for _, w := range g.Scrub.Windows {
		line += fmt.Sprintf(", within %v", w)
	}
	return line
}

// expectedOf spells the writes of its own that a group has, without those of its canary, which is a setting of its own.
func (d *Daemon) expectedOf(g *config.Group) (list []string) {
	all := g.Expected
	if g.Canary.Table != "" && len(all) > 0 {
		all = all[:len(all)-1] // where the configuration puts it
	}
	spell := d.keySpelling()
	for _, e := range all {
		line := strings.Join(e.Tables, ", ") + named(" on ", e.Members) + named(": ", e.Kinds)
		if e.FirstKey != nil {
			line += " from " + spell(e.Tables[0], e.FirstKey)
		}
		if e.LastKey != nil {
			line += " to " + spell(e.Tables[0], e.LastKey)
		}
		list = append(list, line)
	}
	return list
}

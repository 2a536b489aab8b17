package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/lockstep-cdc/lockstep/finding"
)

// printer tells the story, in words or as JSON, one object a line.
type printer struct {
	out    io.Writer
	engine string
	json   bool
	color  bool
	began  time.Time
}

func newPrinter(o Options) *printer {
	return &printer{out: o.Out, engine: o.Engine.Name, json: o.JSON, color: o.Color, began: time.Now()}
}

// event prints one object, the engine added.
func (p *printer) event(name string, fields map[string]any) {
	fields["event"], fields["engine"] = name, p.engine
	p.object(fields)
}

func (p *printer) object(v any) {
	// A line that cannot be written has no one to read it; the exit code still tells.
	_ = json.NewEncoder(p.out).Encode(v)
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p.out, "%5.1fs  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

const (
	green = "32"
	red   = "31"
	bold  = "1"
)

func (p *printer) paint(code, s string) string {
	if !p.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *printer) step(format string, args ...any) {
	if p.json {
		p.event("step", map[string]any{"text": fmt.Sprintf(format, args...)})
		return
	}
	p.line(format, args...)
}

func (p *printer) injected(n int, in *injection) {
	if p.json {
		p.event("injected", map[string]any{"n": n, "name": in.name, "member": in.member, "about": in.about})
		return
	}
	p.line("%s", p.paint(bold, fmt.Sprintf("#%d %s: %s", n, in.name, in.about)))
}

func (p *printer) found(n int, in *injection, a answer, took time.Duration) {
	if p.json {
		p.event("found", map[string]any{
			"n": n, "name": in.name, "found": a.found, "exact": a.exact, "keys": a.keys,
			"after_seconds": took.Seconds(), "problem": a.problem, "divergences": a.divergences,
		})
		return
	}
	switch {
	case !a.found:
		p.line("   %s after %.1fs %s", p.paint(red, "NOT FOUND"), took.Seconds(), a.problem)
		return
	case a.exact:
		p.line("   %s in %.1fs, exactly its keys (%d)", p.paint(green, "found"), took.Seconds(), a.keys)
	default:
		p.line("   %s in %.1fs: %s", p.paint(red, "found, but not exactly"), took.Seconds(), a.problem)
	}
	for _, v := range a.divergences {
		p.divergence(v)
	}
}

func (p *printer) divergence(v finding.Divergence) {
	by := ""
	if v.IntroducedBy != nil {
		by = ", since transaction " + v.IntroducedBy.Transaction
	}
	p.line("     %s: %d %s in %s%s, cause %s", v.Member, v.Keys, v.Kind, v.Table, by, v.Cause)
	for i, r := range v.Ranges {
		if i == 3 {
			p.line("       and %d more", len(v.Ranges)-i)
			break
		}
		if string(r.First) == string(r.Last) {
			p.line("       %s", r.First)
			continue
		}
		p.line("       %s … %s", r.First, r.Last)
	}
}

func (p *printer) healed(in *injection, resolved bool) {
	if p.json {
		p.event("healed", map[string]any{"name": in.name, "member": in.member, "resolved": resolved})
		return
	}
	if resolved {
		p.line("   %s %s on %s", p.paint(green, "resolved"), in.name, in.member)
		return
	}
	p.line("   %s %s on %s", p.paint(red, "STILL OPEN"), in.name, in.member)
}

func (p *printer) falseAlarm(v finding.Divergence) {
	if p.json {
		p.event("false_alarm", map[string]any{"divergence": v})
		return
	}
	p.line("%s", p.paint(red, "FALSE ALARM"))
	p.divergence(v)
}

func (p *printer) summary(s Summary) {
	if p.json {
		p.object(s)
		return
	}
	verdict := p.paint(green, "all found, exactly, and nothing else")
	if !s.OK() {
		verdict = p.paint(red, "lockstep did not do as it promises")
	}
	p.line("injected %d, found %d, exact %d, healed %d, false alarms %d: %s", s.Injected, s.Found, s.Exact, s.Healed, s.FalseAlarms, verdict)
	p.line("slowest found after %.1fs (lag budget %.0fs), while %d transactions wrote %d rows", s.SlowestFound, s.LagBudget, s.Transactions, s.Rows)
}

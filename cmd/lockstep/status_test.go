package main

import (
	"testing"

	"github.com/lockstep-cdc/lockstep/status"
)

// A script that stops a rollout on any other code than 0 stopped it for writes that were expected.
func TestStatusExitsByTheWorst(t *testing.T) {
	for _, c := range []struct {
		code   int
		states []status.Verdict
	}{
		{exitInStep, []status.Verdict{status.InStep, status.Lagging, status.Expected}},
		{exitUnknown, []status.Verdict{status.Expected, status.Unverified}},
		{exitDiverged, []status.Verdict{status.Unverified, status.Stale, status.Expected}},
		{exitDiverged, []status.Verdict{status.Diverged}},
		{exitUnknown, nil},
	} {
		g := status.Group{Members: []status.Member{{}}}
		for _, v := range c.states {
			g.Members[0].Tables = append(g.Members[0].Tables, status.Table{Verdict: v})
		}
		if code := worstCode([]status.Group{g}); code != c.code {
			t.Errorf("with %v it exits %d, want %d", c.states, code, c.code)
		}
	}
}

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/finding"
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

func TestDivergencesExitsByWhatWasNotExpected(t *testing.T) {
	known, other := finding.Divergence{ID: "1", State: finding.Open, Expected: true}, finding.Divergence{ID: "2", State: finding.Open}
	for _, c := range []struct {
		code int
		args string
		list []finding.Divergence
	}{
		{exitInStep, "", nil},
		{exitInStep, "", []finding.Divergence{known}},
		{exitDiverged, "", []finding.Divergence{known, other}},
		{exitUnknown, "--limit=1", []finding.Divergence{known, other}},
		{exitDiverged, "--limit=1", []finding.Divergence{other, known}},
	} {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var answer any = c.list
			if strings.HasSuffix(r.URL.Path, "/groups") {
				answer = []status.Group{{Members: []status.Member{{Tables: []status.Table{{Verdict: status.Expected}}}}}}
			}
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				t.Error(err)
			}
		}))
		var out, errs strings.Builder
		args := append([]string{"divergences", "--url", api.URL}, strings.Fields(c.args)...)
		if code := execute(t.Context(), args, &out, &errs); code != c.code {
			t.Errorf("%s of %d: exit code %d, want %d: %s", c.args, len(c.list), code, c.code, errs.String())
		}
		api.Close()
	}
}

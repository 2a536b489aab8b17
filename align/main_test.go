package align_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain draws fewer histories than rapid does by itself, of other seeds each time, unless it is told how many: the race
// detector makes each of them ten times as slow. LOCKSTEP_SOAK=1 draws 2,000 of each kind.
func TestMain(m *testing.M) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "rapid.checks" })
	checks := "15"
	if os.Getenv("LOCKSTEP_SOAK") != "" {
		checks = "2000"
	}
	if !told {
		if err := flag.Set("rapid.checks", checks); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

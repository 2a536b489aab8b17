package monitor

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lockstep-cdc/lockstep/cdc/cdctest"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/duty"
	"github.com/lockstep-cdc/lockstep/store"
)

// The table of goroutines in docs/design.md says of each duty whose it is, how often it is done and when again after a failure.
func TestTableOfGoroutinesIsTrue(t *testing.T) {
	text, err := os.ReadFile("../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	const everyone, read, scanned, canaries = "a b c", "a b", "c", "b"
	whose := map[string]string{
		"a member": everyone, "a member whose log is read": read, "a member that is only scanned": scanned,
		"a member with a canary": canaries, "a group": "",
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (a (?:group|member)[^|]*) \\| ([^|]+) \\| ([^|]+) \\| .*\\|$").FindAllStringSubmatch(string(text), -1) {
		of, known := whose[row[2]]
		if !known {
			t.Errorf("%s: of what is %s?", row[1], row[2])
		}
		for _, member := range strings.Split(of, " ") {
			documented = append(documented, fmt.Sprintf("%s %s: %s; %s", row[1], member, row[3], row[4]))
		}
	}
	slices.Sort(documented)
	if got := dutiesAsDocumented(t); !slices.Equal(got, documented) {
		t.Errorf("the duties are\n%s\nand in docs/design.md they are\n%s", strings.Join(got, "\n"), strings.Join(documented, "\n"))
	}
}

// dutiesAsDocumented are those of a group with members of every kind.
func dutiesAsDocumented(t *testing.T) []string {
	const canaryEvery = 77 * time.Minute
	st, err := store.Open("data", store.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	cluster := cdctest.NewCluster(cdctest.Postgres, 1)
	opt := Options{
		Name: "shop", Reference: "a",
		Match:   func(string) bool { return true },
		Budget:  func(string) time.Duration { return time.Second },
		Exclude: func(string) []string { return nil },
		Canary:  CanaryPlan{Table: "app.canary", Every: canaryEvery, Into: func(member string) bool { return member == "b" }},
	}
	for _, name := range []string{"a", "b", "c"} {
		opt.Members = append(opt.Members, Member{Name: name, Source: cluster.Server(name).Source(digest.NewHasher(st.Secret())), ScanOnly: name == "c"})
	}
	g, err := Open(opt, st)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var list []string
	say := func(member string, duties []*duty.Duty) {
		for _, d := range duties {
			every, retry := d.Every.String(), cmp.Or(d.Retry, d.Every).String()
			switch {
			case d.Asked != nil:
				every += ", or asked for"
			case d.Every == canaryEvery:
				every, retry = "`canary.every`", "`canary.every`"
			case d.Longest > 0:
				if d.Every == d.Retry { // it lasts until it fails
					every = "–"
				}
				retry += " to " + d.Longest.String()
			}
			list = append(list, fmt.Sprintf("%s %s: %s; %s", d.Name, member, every, retry))
		}
	}
	for _, f := range g.feeds {
		say(f.Name, append(f.canary.duties(), f.duties...))
	}
	slices.Sort(list)
	return list
}

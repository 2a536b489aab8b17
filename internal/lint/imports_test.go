package lint

import (
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lockstep-cdc/lockstep/"

// allowed says what each package of ours may import of ours. Imports point down; a package that is not here fails.
var allowed = map[string]string{
	"digest":            "",
	"merkle":            "digest",
	"fault":             "",
	"cdc":               "digest fault",
	"cdc/cdctest":       "digest cdc",
	"evidence":          "digest merkle",
	"audit/report":      "evidence",
	"audit/tsa":         "",
	"audit/mirror":      "",
	"audit/durable":     "",
	"audit/witness":     "audit/durable",
	"audit/archive":     "",
	"audit/verify":      "digest merkle evidence audit/archive audit/report audit/tsa audit/witness",
	"audit":             "merkle fault evidence duty names audit/archive audit/report audit/tsa audit/mirror audit/durable audit/witness audit/verify",
	"duty":              "fault",
	"preflight":         "digest cdc",
	"scan":              "digest cdc",
	"cdc/postgres":      "digest fault cdc preflight",
	"cdc/mysql":         "digest fault cdc preflight",
	"names":             "",
	"config":            "scan names cdc",
	"internal/bubble":   "",
	"internal/dbtest":   "",
	"internal/impostor": "",
	"internal/load":     "",
	"internal/lint":     "",
	"internal/sbom":     "",
	"internal/sim":      "",
	"deploy":            "",
	"deploy/helm":       "",
	"finding":           "digest cdc",
	"status":            "cdc duty finding names",
	"align":             "digest merkle cdc finding status",
	"store":             "digest merkle cdc evidence finding align",
	"diff":              "digest cdc finding status preflight",
	"alerts":            "evidence finding",
	"web":               "evidence audit duty finding names status align alerts",
	"monitor":           "digest merkle fault cdc evidence duty scan finding names status align store",
	"daemon":            "digest cdc evidence align status duty audit/tsa audit/mirror audit/witness audit preflight cdc/postgres cdc/mysql config finding store alerts web monitor",
	"internal/cluster":  "preflight config internal/dbtest daemon",
	"internal/demo":     "config internal/dbtest internal/load finding web daemon internal/cluster",
	"cmd/release":       "internal/sbom",
	"cmd/lockstep":      "evidence names audit/report audit/tsa audit/witness audit/verify audit preflight config internal/dbtest finding status align diff web monitor daemon internal/demo",
}

// owners says which packages may import a third-party module: the few that would have to change if it went away.
var owners = map[string]string{
	"github.com/cockroachdb/pebble": "store",
	"github.com/jackc/":             "cdc/postgres internal/dbtest internal/cluster internal/demo internal/load",
	"github.com/go-mysql-org/":      "cdc/mysql internal/dbtest internal/cluster internal/demo internal/load",
	"github.com/klauspost/compress": "cdc/mysql",
	"github.com/prometheus/client":  "web",
	"github.com/prometheus/export":  "web",
	"github.com/coreos/":            "cmd/lockstep",
	"github.com/goccy/go-yaml":      "config web",
	"github.com/transparency-dev/":  "audit audit/mirror audit/verify audit/witness",
	"github.com/minio/minio-go":     "audit/mirror",
	"github.com/secure-systems-lab": "audit audit/verify",
	"github.com/gowebpki/jcs":       "evidence",
	"golang.org/x/mod":              "audit audit/verify audit/witness",
	"github.com/digitorus/":         "audit/tsa",
	"k8s.io/klog":                   "audit",
	"github.com/spf13/cobra":        "cmd/lockstep",
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		if _, known := allowed[s.pkg]; !known {
			t.Errorf("%s: package %s is not in the table; say there what it may import", s.path, s.pkg)
		}
		for _, to := range s.imports() {
			inside, ours := strings.CutPrefix(to, module)
			if ours && !s.test && !listed(allowed[s.pkg], inside) {
				t.Errorf("%s: %s may not import %s", s.path, s.pkg, inside)
			}
		}
	}
}

// An edge that no import uses any more would let one come back unseen.
func TestEveryEdgeOfTheTableIsUsed(t *testing.T) {
	used := make(map[[2]string]bool)
	for _, s := range sources(t) {
		for _, to := range s.imports() {
			if inside, ours := strings.CutPrefix(to, module); ours && !s.test {
				used[[2]string{s.pkg, inside}] = true
			}
		}
	}
	for from, to := range allowed {
		for _, name := range strings.Fields(to) {
			if !used[[2]string{from, name}] {
				t.Errorf("%s may import %s, and does not: take it from the table", from, name)
			}
		}
	}
}

// Tests may borrow: they reach the servers of internal/dbtest, and through it a database.
func TestBigModulesHaveOwners(t *testing.T) {
	for _, s := range sources(t) {
		for _, to := range s.imports() {
			for prefix, by := range owners {
				if strings.HasPrefix(to, prefix) && !s.test && !listed(by, s.pkg) {
					t.Errorf("%s: only %s may import %s", s.path, by, to)
				}
			}
		}
	}
}

// forTests lists the packages that only tests may import. They may import testing.
const forTests = "cdc/cdctest internal/bubble internal/impostor"

// TestProductDoesNotLinkTesting keeps the test framework's flags out of the binary, which internal/dbtest is part of.
func TestProductDoesNotLinkTesting(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || listed(forTests, s.pkg) {
			continue
		}
		for _, to := range s.imports() {
			if inside, ours := strings.CutPrefix(to, module); to == "testing" || ours && listed(forTests, inside) {
				t.Errorf("%s imports %s outside a test", s.path, to)
			}
		}
	}
}

func TestTableNamesOnlyPackagesInTheTable(t *testing.T) {
	for from, to := range allowed {
		for _, name := range strings.Fields(to) {
			if _, known := allowed[name]; !known {
				t.Errorf("%s may import %s, which is not in the table", from, name)
			}
		}
	}
	for prefix, by := range owners {
		for _, name := range strings.Fields(by) {
			if _, known := allowed[name]; !known {
				t.Errorf("%s belongs to %s, which is not in the table", prefix, name)
			}
		}
	}
}

func listed(list, name string) bool { return slices.Contains(strings.Fields(list), name) }

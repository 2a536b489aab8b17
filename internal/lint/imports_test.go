package lint

import (
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lockstep-cdc/lockstep/"

// below is everything under monitor, in the order of the layers.
const below = "digest merkle evidence preflight cdc align store cdc/postgres cdc/mysql scan alerts audit audit/mirror audit/tsa audit/witness web"

// allowed says what each package of ours may import of ours. Imports point down; a package that is not here fails.
var allowed = map[string]string{
	"digest":           "",
	"merkle":           "digest",
	"cdc":              "merkle digest",
	"align":            "cdc merkle digest",
	"evidence":         "merkle digest",
	"store":            "align cdc evidence merkle digest",
	"audit/report":     "evidence",
	"audit/tsa":        "",
	"audit/mirror":     "",
	"audit/durable":    "",
	"audit/witness":    "audit/durable",
	"audit/verify":     "evidence audit/report audit/tsa audit/witness merkle digest",
	"audit":            "evidence audit/durable audit/mirror audit/report audit/tsa audit/verify audit/witness merkle digest",
	"preflight":        "digest",
	"scan":             "cdc merkle digest",
	"diff":             "align cdc digest",
	"cdc/postgres":     "cdc merkle digest preflight",
	"cdc/mysql":        "cdc merkle digest preflight",
	"alerts":           "align evidence",
	"web":              "alerts align audit evidence store cdc merkle digest",
	"config":           "scan",
	"monitor":          below + " config",
	"internal/dbtest":  "",
	"internal/load":    "",
	"internal/cluster": "config monitor preflight internal/dbtest",
	"internal/demo":    below + " config monitor internal/cluster internal/dbtest internal/load",
	"internal/lint":    "",
	"deploy":           "",
	"cmd/lockstep":     "audit audit/report audit/tsa audit/verify audit/witness config evidence monitor diff align store cdc preflight web internal/demo internal/dbtest",
}

// owners says which packages may import a third-party module: the few that would have to change if it went away.
var owners = map[string]string{
	"github.com/cockroachdb/pebble": "store",
	"github.com/jackc/":             "cdc/postgres internal/dbtest internal/cluster internal/demo internal/load",
	"github.com/go-mysql-org/":      "cdc/mysql internal/dbtest internal/cluster internal/demo internal/load",
	"github.com/klauspost/compress": "cdc/mysql",
	"github.com/prometheus/client":  "web monitor",
	"github.com/prometheus/alert":   "alerts",
	"github.com/prometheus/export":  "web",
	"github.com/coreos/":            "cmd/lockstep",
	"github.com/go-openapi/":        "alerts",
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

// TestProductDoesNotLinkTesting keeps the test framework's flags out of the binary, which internal/dbtest is part of.
func TestProductDoesNotLinkTesting(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test && slices.Contains(s.imports(), "testing") {
			t.Errorf("%s imports testing outside a test", s.path)
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

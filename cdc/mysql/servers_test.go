package mysql

import (
	"os"
	"testing"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

var flavours = []dbtest.Flavour{dbtest.MariaDB1011, dbtest.MySQL97}

// anew are the options of servers that are as good as new, with an empty database app.
var anew = dbtest.Options{Database: "app", Reuse: true}

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

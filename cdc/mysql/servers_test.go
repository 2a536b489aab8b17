package mysql

import (
	"os"
	"testing"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

var flavours = []dbtest.Flavour{dbtest.MariaDB1011, dbtest.MySQL97}

// anew are the options of servers that are as good as new, with an empty database app. The zone of their process is not the
// one that they tell times in: InnoDB tells some in that of the process.
var anew = dbtest.Options{Database: "app", Reuse: true, Zone: "XYZ+5"}

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

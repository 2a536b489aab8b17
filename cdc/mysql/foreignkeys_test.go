package mysql

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForeignKeysAreReadFromTheTablesStatement(t *testing.T) {
	child := relation{"odd", "child"}
	statement := "CREATE TABLE `child` (\n" +
		"  `id` int(11) NOT NULL COMMENT ', CONSTRAINT `x` FOREIGN KEY (`a`) REFERENCES `b` (`c`) ON DELETE CASCADE',\n" +
		"  `a``) REFERENCES` int(11) DEFAULT NULL,\n" +
		"  KEY `k` (`a``) REFERENCES`),\n" +
		"  CONSTRAINT `plain` FOREIGN KEY (`id`) REFERENCES `par` (`id`),\n" +
		"  CONSTRAINT `both` FOREIGN KEY (`id`,`a``) REFERENCES`) REFERENCES `other`.`par` (`id`,`b`) ON DELETE CASCADE ON UPDATE SET NULL,\n" +
		"  CONSTRAINT `on``update` FOREIGN KEY (`id`) REFERENCES `par` (`id`) ON UPDATE CASCADE,\n" +
		"  CONSTRAINT `no` FOREIGN KEY (`id`) REFERENCES `par` (`id`) ON DELETE NO ACTION ON UPDATE NO ACTION\n" +
		") ENGINE=InnoDB COMMENT='it''s \\'odd\\' ON DELETE CASCADE'"
	want := []foreignKey{
		{child, "plain", "RESTRICT", "RESTRICT"}, {child, "both", "CASCADE", "SET NULL"},
		{child, "on`update", "RESTRICT", "CASCADE"}, {child, "no", "NO ACTION", "NO ACTION"},
	}
	if diff := cmp.Diff(want, parseForeignKeys(child, statement), cmp.AllowUnexported(foreignKey{}, relation{})); diff != "" {
		t.Error(diff)
	}
}

func TestForeignKeySaysWhatItDoes(t *testing.T) {
	for _, test := range []struct {
		key  foreignKey
		want string
	}{
		{foreignKey{name: "a", onDelete: "RESTRICT", onUpdate: "NO ACTION"}, ""},
		{foreignKey{name: "a", onDelete: "CASCADE", onUpdate: "RESTRICT"}, "foreign key a (ON DELETE CASCADE)"},
		{foreignKey{name: "a", onDelete: "SET NULL", onUpdate: "SET DEFAULT"}, "foreign key a (ON DELETE SET NULL ON UPDATE SET DEFAULT)"},
		{foreignKey{name: "a"}, "foreign key a (of rules that we may not see)"},
	} {
		if got := test.key.acts(); got != test.want {
			t.Errorf("%+v: %q, want %q", test.key, got, test.want)
		}
	}
}

func FuzzForeignKeys(f *testing.F) {
	f.Add("CONSTRAINT `a` FOREIGN KEY (`b`) REFERENCES `c` (`d`) ON DELETE CASCADE")
	f.Add("CONSTRAINT <99> FOREIGN KEY (x) REFERENCES y (z)")
	f.Fuzz(func(t *testing.T, statement string) {
		for _, k := range parseForeignKeys(relation{}, statement) {
			if k.onDelete == "" || k.onUpdate == "" {
				t.Errorf("%q: %+v", statement, k)
			}
		}
	})
}

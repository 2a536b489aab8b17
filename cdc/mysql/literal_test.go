package mysql

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/digest"
)

func TestKeysAreWrittenAsTheServerReadsThem(t *testing.T) {
	const no = ""
	for _, test := range []struct{ kind, charset, field, want string }{
		{"bigint", "", `-9223372036854775808`, "-9223372036854775808"},
		{"bigint", "", `18446744073709551615`, "18446744073709551615"},
		{"bigint", "", `"1"`, no},
		{"bigint", "", `1e3`, no},
		{"decimal", "", `12.5`, "12.5"},
		{"decimal", "", `-0.001`, "-0.001"},
		{"decimal", "", `1e40`, "1" + strings.Repeat("0", 40)},
		{"decimal", "", `-1.25e30`, "-125" + strings.Repeat("0", 28)},
		{"decimal", "", `1.5e-22`, "0." + strings.Repeat("0", 21) + "15"},
		{"decimal", "", `1e65`, no}, // 66 digits
		{"decimal", "", `1e-31`, no},
		{"decimal", "", `1e9999999999`, no},
		{"decimal", "", `"NaN"`, no},
		{"varchar", "utf8mb4", `"it's \\ 😀"`, "_utf8mb4 X'69742773205c20f09f9880' COLLATE c"},
		{"varchar", "utf8mb4", `""`, "_utf8mb4 X'' COLLATE c"},
		{"varchar", "utf8mb4", `{"bytes":"\\xff"}`, no},
		{"varchar", "utf8mb3", `"€"`, "_utf8mb3 X'e282ac' COLLATE c"},
		{"varchar", "utf8mb3", `"😀"`, no},
		{"varchar", "ascii", `"é"`, no},
		{"char", "latin1", `"é€\u0081"`, "_latin1 X'e98081' COLLATE c"},
		{"char", "latin1", `"\u0080"`, no}, // whose byte is the euro's
		{"char", "latin1", `"中"`, no},
		{"varchar", "gbk", `"\\xd6d0"`, "_gbk X'd6d0' COLLATE c"},
		{"varbinary", "", `"\\x00ff27"`, "X'00ff27'"},
		{"varbinary", "", `"00"`, no},
		{"date", "", `"0000-00-00"`, "CAST('0000-00-00' AS DATE)"},
		{"date", "", `"2024-02-30"`, "CAST('2024-02-30' AS DATE)"},
		{"date", "", `"infinity"`, no},
		{"date", "", `"-0043-03-15"`, no},
		{"date", "", `"+10000-01-01"`, no},
		{"datetime", "", `"2024-02-29T18:04:56.78"`, "CAST('2024-02-29 18:04:56.78' AS DATETIME(6))"},
		{"timestamp", "", `"2024-02-29T18:04:56Z"`, "CAST('2024-02-29 18:04:56' AS DATETIME(6))"},
		{"timestamp", "", `"-infinity"`, no},
		{"time", "", `"-838:59:59"`, "CAST('-838:59:59' AS TIME(6))"},
		{"uuid", "", `"6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b"`, "CAST('6b1f6d8e-3b1c-4f0e-9a53-7a6f0c2d1e4b' AS UUID)"},
		{"inet4", "", `"\\x7f000001"`, "CAST(X'7f000001' AS inet4)"},
		{"inet6", "", `"\\x7f000001"`, no},
	} {
		c := &columnDefinition{name: "k", kind: digest.MySQLType{DataType: test.kind, Charset: test.charset}, collation: "c"}
		got, err := literals[test.kind](c, json.RawMessage(test.field))
		if test.want == no && !errors.Is(err, errNoValue) || test.want != no && (got != test.want || err != nil) {
			t.Errorf("%s %s is written %q, %v, want %q", test.kind, test.field, got, err, test.want)
		}
	}
}

func TestLatin1ComesBackAsItWas(t *testing.T) {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	if back, err := latin1(string(appendLatin1(nil, all))); err != nil || string(back) != string(all) {
		t.Errorf("%x, %v", back, err)
	}
}

// FuzzLiterals makes sure that nothing which a key may hold ends a literal early.
func FuzzLiterals(f *testing.F) {
	f.Add("varchar", `"a' OR 1=1 -- "`)
	f.Add("decimal", "1e-7")
	f.Add("date", `"2024-02-29"`)
	f.Fuzz(func(t *testing.T, kind, field string) {
		write := literals[kind]
		if write == nil {
			return
		}
		literal, err := write(&columnDefinition{kind: digest.MySQLType{DataType: kind, Charset: "utf8mb4"}, collation: "utf8mb4_bin"}, json.RawMessage(field))
		if err != nil {
			return
		}
		inside := literal
		for _, around := range []string{"_utf8mb4 X'", "' COLLATE utf8mb4_bin", "CAST(X'", "CAST('", "X'", "' AS DATETIME(6))", "' AS DATE)", "' AS TIME(6))", "' AS UUID)", "' AS inet4)", "' AS inet6)"} {
			inside = strings.TrimSuffix(strings.TrimPrefix(inside, around), around)
		}
		if strings.Trim(strings.TrimSuffix(inside, "'"), "0123456789abcdef-.: ") != "" {
			t.Errorf("%s %q is written %q", kind, field, literal)
		}
	})
}

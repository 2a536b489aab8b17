package mysql

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// replicaFilters are the rules by which a channel leaves out changes of tables. The rules for schemas come first; in row
// format the schema of the table counts (https://dev.mysql.com/doc/refman/9.0/en/replication-rules.html).
type replicaFilters struct {
	fold                       bool // names are compared without case
	doSchemas, ignoreSchemas   []string
	doTables, ignoreTables     []string
	doPatterns, ignorePatterns []string
}

func newReplicaFilters(r row, fold bool) replicaFilters {
	get := func(column string) []string {
		text := r.text(column)
		if fold {
			text = strings.ToLower(text)
		}
		return list(text)
	}
	return replicaFilters{
		fold:      fold,
		doSchemas: get("Replicate_Do_DB"), ignoreSchemas: get("Replicate_Ignore_DB"),
		doTables: get("Replicate_Do_Table"), ignoreTables: get("Replicate_Ignore_Table"),
		doPatterns: get("Replicate_Wild_Do_Table"), ignorePatterns: get("Replicate_Wild_Ignore_Table"),
	}
}

// keepsOut says which rule leaves out changes of a table, or nothing.
func (f replicaFilters) keepsOut(table string) string {
	if f.fold {
		table = strings.ToLower(table)
	}
	schema, _, _ := strings.Cut(table, ".")
	matches := func(pattern string) bool { return like(pattern, table) }
	switch {
	case len(f.doSchemas) > 0 && !slices.Contains(f.doSchemas, schema):
		return left("replicate_do_db", f.doSchemas)
	case len(f.doSchemas) == 0 && slices.Contains(f.ignoreSchemas, schema):
		return left("replicate_ignore_db", f.ignoreSchemas)
	case slices.Contains(f.doTables, table):
		return ""
	case slices.Contains(f.ignoreTables, table):
		return left("replicate_ignore_table", f.ignoreTables)
	case slices.ContainsFunc(f.doPatterns, matches):
		return ""
	case slices.ContainsFunc(f.ignorePatterns, matches):
		return left("replicate_wild_ignore_table", f.ignorePatterns)
	case len(f.doTables) > 0:
		return left("replicate_do_table", f.doTables)
	case len(f.doPatterns) > 0:
		return left("replicate_wild_do_table", f.doPatterns)
	}
	return ""
}

func left(rule string, values []string) string {
	return fmt.Sprintf("the replica leaves it out (%s=%s)", rule, strings.Join(values, ","))
}

// like matches as SQL does: % is any text, _ any one character, \ takes what follows as it is.
func like(pattern, text string) bool {
	for pattern != "" {
		switch c := pattern[0]; {
		case c == '%':
			for i := 0; i <= len(text); i++ {
				if like(pattern[1:], text[i:]) {
					return true
				}
			}
			return false
		case text == "":
			return false
		case c == '_':
			_, size := utf8.DecodeRuneInString(text)
			pattern, text = pattern[1:], text[size:]
		default:
			if c == '\\' && len(pattern) > 1 {
				pattern = pattern[1:]
			}
			if pattern[0] != text[0] {
				return false
			}
			pattern, text = pattern[1:], text[1:]
		}
	}
	return text == ""
}

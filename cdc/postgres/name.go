package postgres

import "strings"

// qualified names a table, or one of its partitions, as users read it: schema and name with a dot between. A schema that has a dot or
// a quote itself is quoted, so that no two tables have one name: "a.b".c and a.b.c.
func qualified(schema, name string) string {
	if strings.ContainsAny(schema, `."`) {
		schema = quoteName(schema)
	}
	return schema + "." + name
}

// qualifiedSQL is the same as an expression over pg_namespace and pg_class, under those aliases.
func qualifiedSQL(namespace, class string) string {
	return qualifiedOf(namespace+".nspname", class+".relname")
}

func qualifiedOf(schema, name string) string {
	return `CASE WHEN ` + schema + ` ~ '[."]' THEN '"' || replace(` + schema + `::text, '"', '""') || '"' ELSE ` + schema + `::text END || '.' || ` + name
}

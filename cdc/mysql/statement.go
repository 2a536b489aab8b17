package mysql

import (
	"slices"
	"strings"
)

// effect is what a statement that the log holds as text does to tables. It says too much rather than too little.
type effect struct {
	tables   []relation // that are named; without a schema, of the default one
	truncate bool       // all rows of the tables are deleted, nothing else
	schemas  []string   // of which all tables are changed
	wide     bool       // any table of the default schema, and of those that words names, may be changed
	blind    bool       // and any other, if there is no default schema
	all      bool       // any table may be changed
	words    []string   // all names in the statement, of whatever they are
	catalog  bool       // there may be other tables, or they may be defined otherwise
	reason   string     // for people
}

const statementReason = "changed by a statement that is logged in place of its rows (binlog_format is not ROW)"

// effectOf takes a statement that is no control. A statement that it does not know may do anything.
func effectOf(tokens []token) effect {
	if len(tokens) == 0 {
		return effect{} // a comment
	}
	first, second := tokens[0], token{}
	if len(tokens) > 1 {
		second = tokens[1]
	}
	switch {
	case first.in("START", "COMMIT", "ROLLBACK") && second.is("ALTER"): // MariaDB's ALTER TABLE in two phases
		return definitionEffect(tokens[1:])
	case first.in("CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE"):
		return definitionEffect(tokens)
	case first.is("REPAIR"):
		return effect{tables: namedTables(tokens[1:]), reason: "REPAIR TABLE may have dropped rows"}
	case first.in("GRANT", "REVOKE", "FLUSH", "OPTIMIZE", "INSTALL", "UNINSTALL", "PURGE", "RESET", "KILL", "USE"):
		return effect{}
	case first.is("ANALYZE") && second.in("TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"), first.is("SET") && second.in("PASSWORD", "ROLE", "DEFAULT"):
		return effect{}
	case first.is("DELETE") && second.is("FROM"):
		if table, rest, ok := cutTable(tokens[2:]); ok && len(rest) == 0 { // what a server writes of a MEMORY table that a restart emptied
			return effect{tables: []relation{table}, reason: statementReason}
		}
	}
	e := effect{wide: true, tables: namedTables(tokens), words: namesIn(tokens), reason: statementReason}
	e.blind = !first.in("INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "WITH")
	return e
}

// objects are what statements that define something are about, by the word that names the kind.
var objects = []string{
	"TABLE", "TABLES", "DATABASE", "SCHEMA", "INDEX", "USER", "ROLE", "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "SERVER",
	"TABLESPACE", "LOGFILE", "SEQUENCE", "PACKAGE", "RESOURCE", "INSTANCE", "REFERENCE", "LIBRARY",
}

// definitionEffect takes CREATE, ALTER, DROP, RENAME and TRUNCATE.
func definitionEffect(tokens []token) effect {
	verb := strings.ToUpper(tokens[0].text)
	i := slices.IndexFunc(tokens, func(t token) bool { return t.in(objects...) })
	if verb == "TRUNCATE" {
		i = 0
		if len(tokens) > 1 && tokens[1].is("TABLE") {
			i = 1
		}
		return truncateEffect(tokens[i+1:])
	}
	if i < 0 {
		return unknownEffect(tokens)
	}
	modifiers, kind, rest := tokens[1:i], tokens[i], tokens[i+1:]
	switch {
	case kind.in("TABLE", "TABLES"):
		if slices.ContainsFunc(modifiers, func(t token) bool { return t.is("TEMPORARY") }) {
			return effect{}
		}
		return tableEffect(verb, modifiers, rest)
	case kind.in("DATABASE", "SCHEMA") && verb == "DROP":
		rest = afterIf(rest)
		if len(rest) == 0 || !rest[0].name() {
			return unknownEffect(tokens)
		}
		return effect{schemas: []string{rest[0].text}, catalog: true, reason: "its database was dropped"}
	case kind.is("INDEX") && verb == "DROP" && slices.ContainsFunc(rest, func(t token) bool { return t.name() && strings.EqualFold(t.text, "PRIMARY") }):
		return effect{tables: namedTables(rest), catalog: true, reason: "its primary key was dropped"}
	}
	return effect{catalog: kind.in("DATABASE", "SCHEMA", "INDEX")}
}

// unknownEffect is of a definition that is not known.
func unknownEffect(tokens []token) effect {
	return effect{
		wide: true, blind: true, catalog: true, tables: namedTables(tokens), words: namesIn(tokens),
		reason: "a statement that lockstep does not know may have changed it: " + firstWords(tokens),
	}
}

// firstWords are the keywords that a statement begins with, and nothing that may be a value.
func firstWords(tokens []token) string {
	var words []string
	for _, t := range tokens[:min(2, len(tokens))] {
		if t.kind == word {
			words = append(words, strings.ToUpper(t.text))
		}
	}
	return strings.Join(words, " ")
}

func truncateEffect(rest []token) effect {
	table, rest, ok := cutTable(rest)
	e := effect{tables: []relation{table}, truncate: true}
	if !ok || len(rest) > 0 && !rest[0].in("WAIT", "NOWAIT", ";") {
		return unknownEffect(append([]token{{kind: word, text: "TRUNCATE"}}, rest...))
	}
	return e
}

// unreadable is the effect of a statement whose text cannot be taken apart.
var unreadable = effect{all: true, catalog: true, reason: "a statement in a character set that lockstep does not read may have changed it"}

func tableEffect(verb string, modifiers, rest []token) effect {
	e := effect{catalog: true}
	switch verb {
	case "CREATE":
		anew := !slices.ContainsFunc(rest[:min(3, len(rest))], func(t token) bool { return t.is("EXISTS") }) // it leaves one alone that is there
		table, _, ok := cutTable(rest)
		if !ok {
			return unknownEffect(rest)
		}
		if anew {
			e.tables, e.reason = []relation{table}, "CREATE TABLE made it anew"
		}
	case "DROP":
		e.tables, e.reason = namedTables(rest), "DROP TABLE removed it"
	case "RENAME":
		e.tables, e.reason = namedTables(rest), "RENAME TABLE removed it, or put another table in its place"
	default:
		return alterEffect(modifiers, rest)
	}
	return e
}

// alterEffect takes ALTER TABLE. Other tables come in where one is renamed, or exchanged with a partition.
func alterEffect(modifiers, tokens []token) effect {
	table, rest, ok := cutTable(tokens)
	if !ok {
		return unknownEffect(tokens)
	}
	ignore := slices.ContainsFunc(modifiers, func(t token) bool { return t.is("IGNORE") }) // deletes rows that a new index forbids
	if !ignore && keepsRows(rest) {
		return effect{catalog: true}
	}
	e := effect{tables: []relation{table}, catalog: true, reason: "ALTER TABLE may have rewritten its rows"}
	for i, t := range rest {
		if t.in("TABLE", "RENAME", "TO", "AS", "=") {
			if other, _, ok := cutTable(rest[i+1:]); ok {
				e.tables = append(e.tables, other)
			}
		}
	}
	return e
}

// harmless are the beginnings of clauses of ALTER TABLE that leave all rows as they are.
var harmless = [][]string{
	{"ADD", "INDEX"}, {"ADD", "KEY"}, {"ADD", "UNIQUE"}, {"ADD", "FULLTEXT"}, {"ADD", "SPATIAL"},
	{"DROP", "INDEX"}, {"DROP", "KEY"}, {"RENAME", "INDEX"}, {"RENAME", "KEY"}, {"ALTER", "INDEX"},
	{"ENABLE", "KEYS"}, {"DISABLE", "KEYS"},
}

// keepsRows reports whether an ALTER TABLE surely changes no row: each of its clauses, divided by commas outside of
// parentheses, is harmless.
func keepsRows(tokens []token) bool {
	depth, start := 0, 0
	for i, t := range tokens {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case t.name() && strings.EqualFold(t.text, "PRIMARY"):
			return false
		case t.is(",") && depth == 0:
			if !isHarmless(tokens[start:i]) {
				return false
			}
			start = i + 1
		}
	}
	return depth == 0 && isHarmless(tokens[start:])
}

// isHarmless takes one clause. Options may follow each other without a comma, so of those it must be the only one.
func isHarmless(clause []token) bool {
	if len(clause) > 0 && clause[0].in("COMMENT", "AUTO_INCREMENT", "ALGORITHM", "LOCK") {
		return len(clause) == 2 || len(clause) == 3 && clause[1].is("=")
	}
	return slices.ContainsFunc(harmless, func(h []string) bool { return beginsWith(clause, h) })
}

func beginsWith(tokens []token, words []string) bool {
	if len(tokens) < len(words) {
		return false
	}
	for i, w := range words {
		if !tokens[i].is(w) {
			return false
		}
	}
	return true
}

// afterIf goes over IF EXISTS and IF NOT EXISTS.
func afterIf(tokens []token) []token {
	switch {
	case beginsWith(tokens, []string{"IF", "EXISTS"}):
		return tokens[2:]
	case beginsWith(tokens, []string{"IF", "NOT", "EXISTS"}):
		return tokens[3:]
	}
	return tokens
}

// cutTable reads the name of a table, with or without its schema.
func cutTable(tokens []token) (table relation, rest []token, ok bool) {
	tokens = afterIf(tokens)
	if len(tokens) == 0 || !tokens[0].name() {
		return relation{}, tokens, false
	}
	if len(tokens) >= 3 && tokens[1].is(".") && tokens[2].name() {
		return relation{tokens[0].text, tokens[2].text}, tokens[3:], true
	}
	return relation{table: tokens[0].text}, tokens[1:], true
}

// namedTables takes each name for that of a table, with the one before its dot for the schema.
func namedTables(tokens []token) []relation {
	var tables []relation
	for i, t := range tokens {
		if !t.name() {
			continue
		}
		table := relation{table: t.text}
		if i >= 2 && tokens[i-1].is(".") && tokens[i-2].name() {
			table.schema = tokens[i-2].text
		}
		tables = append(tables, table)
	}
	return tables
}

// namesIn are the texts of all names.
func namesIn(tokens []token) []string {
	var names []string
	for _, t := range tokens {
		if t.name() {
			names = append(names, t.text)
		}
	}
	return names
}

// on finds the watched tables that a statement may have changed.
func (e effect) on(list *watched, defaultSchema string, fold bool) []*watchedTable {
	hit := map[*watchedTable]bool{}
	if e.all {
		for _, w := range list.tables {
			hit[w] = true
		}
	}
	for _, t := range e.tables {
		if t.schema == "" {
			t.schema = defaultSchema
		}
		if w := list.tables[qualified(t.schema, t.table, fold)]; w != nil {
			hit[w] = true
		}
	}
	schemas := slices.Clone(e.schemas)
	if e.wide {
		schemas = append(append(schemas, e.words...), defaultSchema)
	}
	if len(schemas) > 0 {
		for _, w := range list.tables {
			if e.blind && defaultSchema == "" || slices.ContainsFunc(schemas, func(s string) bool { return sameName(s, w.schema, fold) }) {
				hit[w] = true
			}
		}
	}
	found := make([]*watchedTable, 0, len(hit))
	for w := range hit {
		found = append(found, w)
	}
	slices.SortFunc(found, func(a, b *watchedTable) int { return strings.Compare(a.name, b.name) })
	return found
}

func sameName(a, b string, fold bool) bool { return a == b || fold && strings.EqualFold(a, b) }

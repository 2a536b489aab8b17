package postgres

import (
	"fmt"
	"strings"
)

// preamble makes a script stop at the first error, mean what it says whatever the session's settings, and refuse another
// database than the one that was looked at.
func preamble(database string) string {
	p := `\set ON_ERROR_STOP on` + "\nSET client_encoding = 'UTF8';\nSET search_path = '';\n"
	if database == "" {
		return p
	}
	return p + doBlock(fmt.Sprintf("IF current_database() <> %s THEN\n    RAISE EXCEPTION 'this script is for another database';\n  END IF;",
		quoteText(database))) + "\n"
}

// doBlock wraps statements of PL/pgSQL. A name that holds the dollar quote must not end it.
func doBlock(body string) string {
	body = "BEGIN\n  " + body + "\nEND"
	if strings.Contains(body, "$lockstep$") {
		return "DO " + quoteText(body) + ";"
	}
	return "DO $lockstep$ " + body + " $lockstep$;"
}

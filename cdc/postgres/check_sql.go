package postgres

import (
	"fmt"
	"strings"
)

// SQL is a script for psql that makes the member ready, as far as SQL can: run by a superuser, any number of times. What
// SQL cannot mend stands in it as comments.
func (r *Report) SQL() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- makes member %s ready for lockstep; run it with psql as a superuser\n", comment(r.Member))
	b.WriteString(`\set ON_ERROR_STOP on` + "\nSET client_encoding = 'UTF8';\nSET search_path = '';\n")
	if r.server.Database != "" {
		b.WriteString(doBlock(fmt.Sprintf("IF current_database() <> %s THEN\n    RAISE EXCEPTION 'this script is for another database';\n  END IF;",
			quoteText(r.server.Database))) + "\n")
	}
	restart := false
	for _, c := range r.Checks {
		switch {
		case c.State == OK:
		case c.SQL == "":
			fmt.Fprintf(&b, "\n-- %s %s; by hand: %s\n", comment(c.Subject), comment(c.Detail), comment(c.Hint))
		default:
			fmt.Fprintf(&b, "\n-- %s: %s\n", comment(c.Subject), comment(c.Detail))
			if c.Hint != "" {
				fmt.Fprintf(&b, "-- %s\n", comment(c.Hint))
			}
			b.WriteString(c.SQL + "\n")
			restart = restart || c.Restart
		}
	}
	if restart {
		b.WriteString("\n-- then restart the server\n")
	}
	return b.String()
}

// comment keeps text that names of the server are part of on one line, so that none of it is ever run.
func comment(s string) string { return strings.Join(strings.Fields(s), " ") }

// doBlock wraps statements of PL/pgSQL. A name that holds the dollar quote must not end it.
func doBlock(body string) string {
	body = "BEGIN\n  " + body + "\nEND"
	if strings.Contains(body, "$lockstep$") {
		return "DO " + quoteText(body) + ";"
	}
	return "DO $lockstep$ " + body + " $lockstep$;"
}

package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func dsnExample(engine string) string {
	if engine == MySQL || engine == MariaDB {
		return "write it like mysql://lockstep@10.0.0.1:3306/shop?tls=verify-full"
	}
	return "write it like postgres://lockstep@10.0.0.1/shop?sslmode=verify-full"
}

// unsaid is the sslmode of a string that has none. One that is empty would be the driver's default, in place of ours.
const unsaid = "-"

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// dsn is what can be known of a connection string without the driver.
type dsn struct {
	engine                  string
	text                    string // without the password
	password                string
	host, database, sslmode string // sslmode may be unsaid
	secretParameter         string
}

// decodeDSN returns the connection string without its password, and the password if the environment gave one. The
// string may hold a secret, so no error prints it.
func decodeDSN(n node, engine string) (string, Secret) {
	raw := n.text()
	if raw == "" {
		return "", ""
	}
	before := len(n.list)
	hidden, values := hideVariables(n, raw)
	if len(n.list) > before {
		return "", "" // a variable is missing
	}
	if len(values) == 1 && hidden == values[0].token { // the whole string comes from the environment
		d, err := parseDSN(values[0].value, engine)
		return d.check(n, err), Secret(d.password)
	}
	d, err := parseDSN(hidden, engine)
	password := d.password
	if password != "" && !slices.ContainsFunc(values, func(v variable) bool { return v.token == password }) {
		n.fail("holds a password", "put it in a file and name that as password_file, or write ${NAME} for it")
		return "", ""
	}
	text := d.check(n, err)
	for _, v := range values {
		text = strings.ReplaceAll(text, v.token, v.value)
		password = strings.ReplaceAll(password, v.token, v.value)
	}
	return text, Secret(password)
}

// variable is one ${NAME} of a connection string, and the digits that stand for it while the string is taken apart:
// they are good as a user, host, port and database, and the value may hold any character.
type variable struct{ token, value string }

func hideVariables(n node, raw string) (string, []variable) {
	var values []variable
	next := 20001 // five digits make a valid port
	hidden := reference.ReplaceAllStringFunc(raw, func(ref string) string {
		for strings.Contains(raw, strconv.Itoa(next)) {
			next++
		}
		v := variable{strconv.Itoa(next), n.variable(ref)}
		next++
		values = append(values, v)
		return v.token
	})
	return hidden, values
}

// check reports what is wrong with a string that was taken apart, and returns it.
func (d dsn) check(n node, err error) string {
	switch {
	case err != nil:
		n.fail(err.Error(), dsnExample(d.engine))
	case d.host == "":
		n.fail("names no host", dsnExample(d.engine))
	case strings.Contains(d.host, ","):
		n.fail("names several hosts", "a member is one server: list each as a member of its own")
	case d.database == "" && d.engine == Postgres:
		n.fail("names no database", dsnExample(d.engine))
	case d.secretParameter != "":
		n.fail("holds "+d.secretParameter, "lockstep takes no such secret in the dsn; use a key without a passphrase, or a password_file")
	case d.sslmode != unsaid && !slices.Contains(sslModes, d.sslmode):
		n.fail(fmt.Sprintf("unknown sslmode %q", d.sslmode), "use one of "+strings.Join(sslModes, ", "))
	}
	return d.text
}

func parseDSN(s, engine string) (dsn, error) {
	scheme, _, isURL := strings.Cut(s, "://")
	mysql := scheme == "mysql" || scheme == "mariadb"
	var d dsn
	var err error
	switch {
	case engine == MySQL || engine == MariaDB:
		if !isURL || !mysql {
			return dsn{engine: engine}, errors.New("is not a mysql URL")
		}
		d, err = parseMySQL(s)
	case isURL && mysql:
		err = fmt.Errorf("is of another engine than the group (scheme %q)", scheme)
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		d, err = parsePostgres(s)
	case !isURL || strings.Contains(scheme, "="):
		d, err = parseKeywords(s)
	default:
		err = errors.New("is not a postgres URL")
	}
	d.engine = engine
	return d, err
}

// parseMySQL takes the password out of a URL whose parameters the engine's own package reads.
func parseMySQL(s string) (dsn, error) {
	u, err := url.Parse(s)
	if err != nil {
		return dsn{}, errors.New("is not a well-formed URL") // url's own error prints it
	}
	d := dsn{host: u.Host + u.Query().Get("socket"), sslmode: unsaid}
	if password, set := u.User.Password(); set {
		d.password = password
		u.User = url.User(u.User.Username())
	}
	d.text = u.String()
	return d, nil
}

func parsePostgres(s string) (dsn, error) {
	u, err := url.Parse(s)
	if err != nil {
		return dsn{}, errors.New("is not a well-formed URL") // url's own error prints it
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return dsn{}, errors.New("is not a well-formed URL")
	}
	d := dsn{host: u.Host, database: strings.TrimPrefix(u.Path, "/"), sslmode: unsaid}
	if query.Has("sslmode") {
		d.sslmode = query.Get("sslmode")
	}
	if query.Has("host") {
		d.host = query.Get("host")
	}
	if query.Has("dbname") {
		d.database = query.Get("dbname")
	}
	if query.Has("sslpassword") {
		d.secretParameter = "sslpassword"
	}
	d.password = query.Get("password")
	if query.Has("password") {
		query.Del("password")
		u.RawQuery = query.Encode()
	}
	if password, set := u.User.Password(); set {
		d.password = password
		u.User = url.User(u.User.Username())
	}
	d.text = u.String()
	return d, nil
}

// parseKeywords reads libpq's form: key = value, the value perhaps in single quotes, with \ before a quote or a \.
func parseKeywords(s string) (dsn, error) {
	d := dsn{sslmode: unsaid}
	var kept []string
	for rest := strings.TrimSpace(s); rest != ""; rest = strings.TrimLeft(rest, " \t\r\n") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			return dsn{}, errors.New("is neither a postgres URL nor key=value pairs")
		}
		value, length, err := keywordValue(strings.TrimLeft(after, " \t\r\n"))
		if err != nil {
			return dsn{}, err
		}
		rest = strings.TrimLeft(after, " \t\r\n")[length:]
		key = strings.TrimSpace(key)
		if key == "password" {
			d.password = value
			continue
		}
		d.set(key, value)
		kept = append(kept, key+"="+quoteKeyword(value))
	}
	d.text = strings.Join(kept, " ")
	return d, nil
}

func (d *dsn) set(key, value string) {
	switch key {
	case "host", "hostaddr":
		d.host = value
	case "dbname":
		d.database = value
	case "sslmode":
		d.sslmode = value
	case "sslpassword":
		d.secretParameter = key
	}
}

// keywordValue returns the value that s starts with, and how many bytes of s it takes.
func keywordValue(s string) (value string, length int, err error) {
	quoted := strings.HasPrefix(s, "'")
	i := 0
	if quoted {
		i = 1
	}
	var b strings.Builder
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			return b.String(), i + 1, nil
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			return b.String(), i, nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", 0, errors.New("has a quote that is not closed")
	}
	return b.String(), i, nil
}

func quoteKeyword(value string) string {
	if value != "" && !strings.ContainsAny(value, " \t\r\n'\\") {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

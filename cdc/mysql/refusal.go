package mysql

import (
	"errors"
	"fmt"
	"strings"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Errors that only the operator of the server can mend
// (https://dev.mysql.com/doc/mysql-errors/en/server-error-reference.html).
const (
	errDatabaseDenied   = 1044
	errAccessDenied     = 1045
	errHostNotAllowed   = 1130
	errHostBlocked      = 1129
	errTableDenied      = 1142
	errColumnDenied     = 1143
	errPrivilegeMissing = 1227
	errPluginDenied     = 1698 // MariaDB: the account is for those who come as a system user
	errPasswordExpired  = 1862
	errMustChange       = 1820
	errAccountLocked    = 3118
	errMariaDBLocked    = 4151
	errTooManyFailures  = 3955 // FAILED_LOGIN_ATTEMPTS
	errMariaDBFailures  = 4150 // max_password_errors

	errNoSuchTable  = 1146
	errTableChanged = 1412 // ER_TABLE_DEF_CHANGED: to a view that is older
)

// serverAnswer is the server's own error, or nil if err is something else.
func serverAnswer(err error) *wire.MyError {
	var answer *wire.MyError
	if errors.As(err, &answer) {
		return answer
	}
	return nil
}

// errorCode is the number of the server's answer, or 0 if err is something else.
func errorCode(err error) uint16 {
	if answer := serverAnswer(err); answer != nil {
		return answer.Code
	}
	return 0
}

// refused is about a login that a server turned down.
func (s *Source) refused(err error) error {
	hint := ""
	switch errorCode(err) {
	case errAccessDenied, errPluginDenied, errDatabaseDenied:
		hint = fmt.Sprintf("check user, password and password_file; on a server that has no such account yet: CREATE USER %s IDENTIFIED BY '...';", quoteAccount(s.address.user+"@%"))
		if s.options.Password == nil && s.address.password == "" {
			hint = "no password was given: name the file that holds it, password_file or lockstep init --password-file; " + hint
		}
	case errHostNotAllowed:
		hint = fmt.Sprintf("CREATE USER %s IDENTIFIED BY '...';", quoteAccount(s.address.user+"@%"))
	case errHostBlocked:
		hint = "mysqladmin flush-hosts"
	case errPasswordExpired, errMustChange:
		hint = fmt.Sprintf("ALTER USER %s IDENTIFIED BY '...';", quoteAccount(s.address.user+"@%"))
	case errAccountLocked, errMariaDBLocked, errTooManyFailures:
		hint = fmt.Sprintf("ALTER USER %s ACCOUNT UNLOCK;", quoteAccount(s.address.user+"@%"))
	case errMariaDBFailures:
		hint = "FLUSH PRIVILEGES;"
	default:
		return err
	}
	return &cdc.SetupError{Problem: serverAnswer(err).Message, Hint: hint, Denied: true}
}

// missingRight turns a refusal for want of a privilege into what grants it.
func (c *session) missingRight(err error, privileges, on string) error {
	switch errorCode(err) {
	case errDatabaseDenied, errTableDenied, errColumnDenied, errPrivilegeMissing:
		return &cdc.SetupError{Problem: serverAnswer(err).Message, Hint: c.grant(privileges, on)}
	}
	return err
}

// grant is the statement that gives us privileges.
func (c *session) grant(privileges, on string) string {
	return fmt.Sprintf("GRANT %s ON %s TO %s;", privileges, on, c.account)
}

// quoteAccount quotes lockstep@10.0.%; the host follows the last @.
func quoteAccount(account string) string {
	user, host := account, "%"
	if i := strings.LastIndexByte(account, '@'); i >= 0 {
		user, host = account[:i], account[i+1:]
	}
	return quoteText(user) + "@" + quoteText(host)
}

// quoteText quotes a string, where \ escapes.
func quoteText(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// quoteName quotes the parts of a name.
func quoteName(parts ...string) string {
	quoted := make([]string, len(parts))
	for i, part := range parts {
		quoted[i] = "`" + strings.ReplaceAll(part, "`", "``") + "`"
	}
	return strings.Join(quoted, ".")
}

package config

// decodeRoles reads which user may do what. Nil: every one may do everything.
func decodeRoles(n node) map[string]string {
	f := n.fields("viewer", "operator", "auditor")
	if !n.present() {
		return nil
	}
	roles, users := make(map[string]string), unique{}
	for _, role := range []string{"viewer", "operator", "auditor"} {
		for _, item := range f[role].items() {
			name := item.text()
			if name == "" {
				item.fail("is empty", "write the name of a user")
				continue
			}
			users.check(item, name)
			roles[name] = role
		}
	}
	if len(roles) == 0 {
		n.fail("names no user", "list users under viewer, operator or auditor, or leave the key out")
	}
	return roles
}

package config

import (
	"fmt"
	"regexp"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

// decodeHosts reads the names under which the API is called.
func decodeHosts(n node) (names []string) {
	f := n.fields("allowed_hosts")
	for _, item := range f["allowed_hosts"].items() {
		name := item.text()
		if !hostName.MatchString(name) {
			item.fail(fmt.Sprintf("%q is not the name of a host", name), "write one such as lockstep.example, without scheme, port and *")
			continue
		}
		names = append(names, name)
	}
	return names
}

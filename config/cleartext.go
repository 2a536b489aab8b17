package config

import (
	"net/url"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// InClear reports whether what is sent to an address can be read on the way.
func InClear(to *url.URL) bool { return to.Scheme != "https" && !cdc.IsLocal(to.Hostname()) }

// checkSecretTo refuses to send a secret so, unless the configuration says so in so many words.
func checkSecretTo(n node, to *url.URL, what string, clearText bool) {
	if to != nil && !clearText && InClear(to) {
		n.fail("has "+what+" sent in clear text", "write https://, or clear_text: true beside it to let anybody on the way read it")
	}
}

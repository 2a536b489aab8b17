package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Knows reports whether a request for a host, as clients name it, is one for this socket. A page of another site can have the name
// of that site resolve to our address, and would then be our own to the browser (DNS rebinding); but it sends that name. Nobody
// can do so with an address, nor with localhost. A client that sends no name is no browser.
func (s *Socket) Knows(host string, names []string) bool {
	name := nameOf(host)
	if _, err := netip.ParseAddr(name); err == nil || name == "" || name == "localhost" || name == nameOf(s.address) {
		return true
	}
	return slices.ContainsFunc(names, func(known string) bool { return nameOf(known) == name })
}

// nameOf is the name in host or host:port, as names are compared.
func nameOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// Guard answers requests under foreign names, and hands the rest on.
func (s *Socket) Guard(next http.Handler, names func() []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Knows(r.Host, names()) {
			next.ServeHTTP(w, r)
			return
		}
		says := fmt.Sprintf("lockstep is not known as %q: call it by an IP address, or add the name to web.allowed_hosts", nameOf(r.Host))
		if strings.HasPrefix(r.URL.Path, "/api/") {
			failure(w, http.StatusMisdirectedRequest, says)
			return
		}
		http.Error(w, says, http.StatusMisdirectedRequest)
	})
}

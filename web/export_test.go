package web

import "reflect"

// SocketOf is one that does not listen, of an address as it is given.
func SocketOf(address string) *Socket { return &Socket{address: address} }

// Taken is what a route of the API takes.
type Taken struct {
	Pattern string
	Query   []string
	Body    reflect.Type // nil: nothing
}

// Routes lists all of them.
func Routes() (all []Taken) {
	for _, r := range routes {
		all = append(all, Taken{r.pattern, r.query, r.body})
	}
	return all
}

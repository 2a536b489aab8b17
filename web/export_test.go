package web

// SocketOf is one that does not listen, of an address as it is given.
func SocketOf(address string) *Socket { return &Socket{address: address} }

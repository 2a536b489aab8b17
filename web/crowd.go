package web

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// mostGuests is how many clients may be connected at once. Prometheus, proxies and people are a few dozen.
const mostGuests = 256

// crowd is a listener with a bound on its connections. One that comes beyond it takes the place of the one that has got on with
// nothing for longest, so that clients who say half of what they want, or do not read, keep nobody out.
type crowd struct {
	net.Listener

	mu     sync.Mutex
	guests list.List // of *guest; the first got on with something longest ago
}

// guest is a connection.
type guest struct {
	net.Conn
	crowd *crowd
	place *list.Element // guarded by crowd.mu; nil: it left
}

// Accept implements [net.Listener].
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: conn, crowd: c}
	c.mu.Lock()
	var first *guest
	if c.guests.Len() >= mostGuests {
		first = c.guests.Front().Value.(*guest)
	}
	g.place = c.guests.PushBack(g)
	c.mu.Unlock()
	if first != nil {
		_ = first.Close() // nobody is to hear of it but the client, who does
	}
	return g, nil
}

// Close implements [net.Conn].
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	if g.place != nil {
		g.crowd.guests.Remove(g.place)
		g.place = nil
	}
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}

// moved notes that a connection got on: a request of it was begun, or answered.
func (c *crowd) moved(conn net.Conn, _ http.ConnState) {
	if sealed, ok := conn.(interface{ NetConn() net.Conn }); ok { // by TLS
		conn = sealed.NetConn()
	}
	g := conn.(*guest)
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.place != nil {
		c.guests.MoveToBack(g.place)
	}
}

package impostor

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Relay leads the connections to the address that it returns to a server, and from when lead is called to another one, as a name or an
// address does that is taken over. Those that were made before stay where they are.
func Relay(t *testing.T, to string) (address string, lead func(to string)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var target atomic.Pointer[string]
	target.Store(&to)
	var relaying sync.WaitGroup
	relaying.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", *target.Load())
			if err != nil {
				_ = conn.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{conn, server}, {server, conn}} {
				relaying.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_, _ = way[0].Close(), way[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() { // the connections were closed by who has made them
		_ = listener.Close()
		relaying.Wait()
	})
	return listener.Addr().String(), func(to string) { target.Store(&to) }
}

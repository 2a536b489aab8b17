package impostor

import (
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Server is an address at which somebody answers any number of connections at once, and who counts them.
type Server struct {
	Address string

	came, here atomic.Int64
}

// Came is how many connections were made so far.
func (s *Server) Came() int64 { return s.came.Load() }

// Here is how many connections are open.
func (s *Server) Here() int64 { return s.here.Load() }

// Serve has connections served until the test ends. Each is closed once serve returns.
func Serve(t *testing.T, serve func(net.Conn)) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.came.Add(1)
			s.here.Add(1)
			serving.Go(func() {
				defer s.here.Add(-1)
				serve(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() { // the connections were closed by who has made them
		_ = listener.Close()
		serving.Wait()
	})
	return s
}

// Hang answers nothing until the other side hangs up.
func Hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// Babble answers at once, with what is no protocol.
func Babble(conn net.Conn) {
	b := make([]byte, 1+rand.N(300))
	for i := range b {
		b[i] = byte(rand.N(256))
	}
	_, _ = conn.Write(b)
}

// Lead leads to a server.
func Lead(to string) func(net.Conn) {
	return func(conn net.Conn) { lead(conn, to, math.MaxInt64, false) }
}

// Cut leads to a server, and hangs up in the middle of its answers: of each connection after another number of bytes.
func Cut(to string) func(net.Conn) {
	return func(conn net.Conn) { lead(conn, to, some(), false) }
}

// Stall leads to a server, and falls silent in the middle of its answers.
func Stall(to string) func(net.Conn) {
	return func(conn net.Conn) { lead(conn, to, some(), true) }
}

// some is a number of bytes: as many of a greeting as of what comes after the login.
func some() int64 { return 1 << (3 + rand.N(10)) }

// lead hands over so many bytes of a server's answers. After that it hangs up, or waits until the other side does.
func lead(conn net.Conn, to string, bytes int64, stall bool) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	})
	if _, err := io.CopyN(conn, server, bytes); err != nil || !stall {
		_ = conn.Close()
	}
	asking.Wait()
}

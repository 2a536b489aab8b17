package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/finding"
)

// dial connects to a front and says something, which need not be all of a request.
func dial(t *testing.T, address, says string) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, says); err != nil {
		t.Fatal(err)
	}
	return c
}

// large is a group with more to tell than a connection holds.
func large() *watched {
	g := shop()
	for n := range 20000 {
		g.divergences = append(g.divergences, divergence(n, func(d *finding.Divergence) { d.Detail = strings.Repeat("x", 1000) }))
	}
	return g
}

const all = "/api/v1/divergences?limit=100000"

// Half a request, or a client that does not read, held the lock that a reload waits for: nothing was watched meanwhile.
func TestNobodyWaitsForSlowClients(t *testing.T) {
	f, stop := serve(t, "", nil)
	defer stop()
	api := server(health{}, large())
	f.Use(api)
	const body = `{"group":"shop","tables":[]}`
	half := dial(t, f.Addr(), fmt.Sprintf("POST /api/v1/scrubs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:10]))
	deaf := dial(t, f.Addr(), "GET "+all+" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	answer := bufio.NewReader(deaf)
	first, err := answer.Peek(1) // it is being sent
	if err != nil {
		t.Fatal(err)
	}
	api.Close()
	if code, text := ask(t, newClient(t, nil), http.MethodGet, "http://"+f.Addr()+"/api/v1/groups", nil); code != http.StatusServiceUnavailable {
		t.Errorf("after the end %d %s", code, text)
	}
	// Nobody was cut off for that.
	if rest, err := http.ReadResponse(answer, nil); err != nil || rest.StatusCode != http.StatusOK {
		t.Errorf("who reads late, from %q on: %v", first, err)
	} else if n, err := io.Copy(io.Discard, rest.Body); err != nil || n < 20_000_000 {
		t.Errorf("who reads late got %d bytes: %v", n, err)
	}
	if _, err := io.WriteString(half, body[10:]); err != nil {
		t.Fatal(err)
	}
	if late, err := http.ReadResponse(bufio.NewReader(half), nil); err != nil || late.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("who asks late gets %v, %v", late, err)
	}
}

// A thousand clients that say half of what they want, or do not read, keep nobody out.
func TestSlowClientsKeepNobodyOut(t *testing.T) {
	for name, says := range map[string]string{
		"nothing":       "",
		"half a header": "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
		"half a body":   "POST /api/v1/scrubs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"deaf":          "GET " + all + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			f, stop := serve(t, "", nil)
			var slow []net.Conn
			g := large()
			g.divergences = g.divergences[:100]
			f.Use(server(health{}, g))
			c := newClient(t, nil)
			for n := range 1000 {
				slow = append(slow, dial(t, f.Addr(), says))
				if n%250 != 249 {
					continue
				}
				for _, path := range []string{"/-/healthy", "/api/v1/trust/shop/eu-1", "/metrics"} {
					if code, text := ask(t, c, http.MethodGet, "http://"+f.Addr()+path, nil); code != http.StatusOK {
						t.Errorf("with %d slow clients %s answers %d %s", n+1, path, code, text)
					}
				}
			}
			for _, c := range slow { // for whom the end would wait
				c.Close()
			}
			if err := stop(); err != nil {
				t.Errorf("the end is %v", err)
			}
		})
	}
}

func TestHeadersAreBounded(t *testing.T) {
	f, stop := serve(t, "", nil)
	defer stop()
	c := dial(t, f.Addr(), "GET /-/healthy HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
	_, _ = io.WriteString(c, strings.Repeat("x", 1<<16)+"\r\n\r\n") // it may be cut off before the end
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil && answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KiB is answered %s", answer.Status)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/api/v1/scrubs", strings.NewReader(strings.Repeat(" ", 1<<20+1)))
	r.Header.Set("Content-Type", "application/json")
	server(health{}, shop()).ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge || !strings.HasPrefix(w.Body.String(), `{"error":`) {
		t.Errorf("a body of more than 1 MiB is answered %d %s", w.Code, w.Body)
	}
}

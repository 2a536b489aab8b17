package mysql

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/impostor"
)

// liar answers in place of a server, and keeps all that it is told, under the TLS that it speaks with a certificate of its own.
type liar struct {
	greeting []byte
	asks     []byte // the packet after the login
	key      *rsa.PrivateKey
	seal     *tls.Config // nil: no TLS

	mu   sync.Mutex
	told []byte
}

const secret = "corr3ct-h0rse"

// greetingOf is a greeting by a plugin.
func greetingOf(plugin string, sealed bool) []byte {
	flags := wire.CLIENT_PROTOCOL_41 | wire.CLIENT_SECURE_CONNECTION | wire.CLIENT_PLUGIN_AUTH | wire.CLIENT_CONNECT_ATTRS | wire.CLIENT_LONG_PASSWORD | wire.CLIENT_TRANSACTIONS
	if sealed {
		flags |= wire.CLIENT_SSL
	}
	b := append([]byte{wire.ClassicProtocolVersion}, "9.7.0\x00"...)
	b = append(b, 1, 0, 0, 0)
	b = append(b, "12345678\x00"...)
	b = append(b, byte(flags), byte(flags>>8), 255, 2, 0, byte(flags>>16), byte(flags>>24), 21)
	b = append(b, make([]byte, 10)...)
	b = append(b, "901234567890\x00"...)
	return append(b, plugin+"\x00"...)
}

// switchTo is an AuthSwitchRequest.
func switchTo(plugin string) []byte {
	return append(append([]byte{wire.EOF_HEADER}, plugin+"\x00"...), "12345678901234567890123456789012\x00"...)
}

func (i *liar) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	send := func(packet []byte, sequence byte) { _, _ = conn.Write(framed(packet, sequence)) }
	hear := func() (packet []byte, sequence byte) {
		header := make([]byte, 4)
		if _, err := io.ReadFull(conn, header); err != nil {
			return nil, 0
		}
		packet = make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
		_, _ = io.ReadFull(conn, packet)
		i.mu.Lock()
		defer i.mu.Unlock()
		i.told = append(i.told, packet...)
		if i.key != nil && len(packet) == i.key.Size() {
			plain, err := rsa.DecryptOAEP(sha1.New(), rand.Reader, i.key, packet, nil)
			for n := range plain {
				plain[n] ^= "12345678901234567890"[n%20]
			}
			if err == nil {
				i.told = append(i.told, plain...)
			}
		}
		return packet, header[3] + 1
	}
	send(i.greeting, 0)
	packet, sequence := hear()
	if len(packet) == fixedResponse && i.seal != nil {
		sealed := tls.Server(conn, i.seal)
		if sealed.Handshake() != nil {
			return
		}
		conn = sealed
		_, sequence = hear()
	}
	send(i.asks, sequence)
	for {
		packet, sequence := hear()
		if packet == nil {
			return
		}
		if len(packet) == 1 && i.key != nil { // it asks for a key
			der, _ := x509.MarshalPKIXPublicKey(&i.key.PublicKey)
			send(append([]byte{wire.MORE_DATE_HEADER}, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...), sequence)
			continue
		}
		send(append([]byte{wire.ERR_HEADER, 0x15, 0x04}, "#28000no"...), sequence) // 1045
	}
}

// ask has a source log in to the impostor, by a DSN with the host and parameters, and returns what came of it and what the impostor was told.
func (i *liar) ask(t *testing.T, host, parameters string) (told []byte, failed error) {
	t.Helper()
	address, end := impostor.Listen(t, i.serve)
	_, port, _ := net.SplitHostPort(address)
	source, err := New(Options{Member: "m", DSN: "mysql://lockstep@" + host + ":" + port + "/" + parameters, Password: func() (string, error) { return secret, nil }}, scanHasher)
	if err != nil {
		t.Fatal(err)
	}
	source.address.host = "127.0.0.1" // where it can be reached
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = source.open(ctx)
	end()
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.told, err
}

// Whoever answers at the address of a server asks for the password in every way that the protocol has. What it is told is a proof at
// most, which is good for nobody else.
func TestImpostorIsNotToldThePassword(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	seal, authority := impostor.SelfSigned(t)
	full := []byte{wire.MORE_DATE_HEADER, wire.CACHE_SHA2_FULL_AUTH}
	asks := map[string]*liar{
		"in clear":                      {greeting: greetingOf(pluginNative, true), asks: switchTo(pluginClear)},
		"by SHA-256":                    {greeting: greetingOf(pluginSHA256, true), asks: switchTo(pluginSHA256)},
		"as one that is not cached":     {greeting: greetingOf(pluginSHA2, true), asks: full},
		"in clear, at the first word":   {greeting: greetingOf(pluginClear, true), asks: switchTo(pluginClear)},
		"by what nobody knows":          {greeting: greetingOf("dialog", true), asks: switchTo("dialog")},
		"as servers of the century did": {greeting: greetingOf(pluginNative, true), asks: []byte{wire.EOF_HEADER}},
	}
	for name, ask := range asks {
		for parameters, sealed := range map[string]bool{
			"": true, "?tls=preferred": true, "?tls=required": true, "?tls=verify-ca": true, "?tls=verify-full": true, "?tls=disable": false,
		} {
			i := &liar{greeting: ask.greeting, asks: ask.asks, key: key}
			if sealed {
				i.seal = seal
			}
			t.Run(name+parameters, func(t *testing.T) {
				told, err := i.ask(t, "127.0.0.1", parameters)
				if !cdc.IsSetup(err) {
					t.Errorf("%v, want one for the operator", err)
				}
				if len(told) == 0 || bytes.Contains(told, []byte(secret)) {
					t.Errorf("it was told %q", told)
				}
			})
		}
	}
	for _, name := range []string{"in clear", "by SHA-256", "as one that is not cached"} {
		for _, parameters := range []string{
			"?insecure_password=allow&tls=disable", "?insecure_password=allow", "?tls=verify-full&tls_ca=" + authority, "?tls=verify-ca&tls_ca=" + authority,
		} {
			t.Run("a server that may know, "+name+parameters, func(t *testing.T) {
				i := &liar{greeting: asks[name].greeting, asks: asks[name].asks, key: key, seal: seal}
				if told, _ := i.ask(t, "127.0.0.1", parameters); !bytes.Contains(told, []byte(secret)) {
					t.Errorf("it was told %q", told)
				}
			})
		}
	}
}

// A server without TLS on another machine is one that anybody can pose as.
func TestServerOnAnotherMachineMustProveWhoItIs(t *testing.T) {
	seal, _ := impostor.SelfSigned(t)
	for name, i := range map[string]*liar{
		"without TLS":               {greeting: greetingOf(pluginNative, false), asks: switchTo(pluginClear)},
		"a certificate of nobody's": {greeting: greetingOf(pluginNative, true), asks: switchTo(pluginClear), seal: seal},
	} {
		told, err := i.ask(t, "10.0.0.1", "")
		if !cdc.IsSetup(err) || !strings.Contains(err.Error(), "in the dsn") {
			t.Errorf("%s: %v, want one that says what to write in the dsn", name, err)
		}
		if len(told) > fixedResponse { // it was asked for TLS at most
			t.Errorf("%s: it was told %q", name, told)
		}
	}
}

// Whatever a server says that has not proven who it is.
func FuzzLogin(f *testing.F) {
	full := framed([]byte{wire.MORE_DATE_HEADER, wire.CACHE_SHA2_FULL_AUTH}, 2)
	for _, plugin := range []string{pluginNative, pluginSHA2, pluginEd25519, pluginSHA256, pluginClear} {
		f.Add(append(framed(greetingOf(plugin, false), 0), framed(switchTo(plugin), 2)...))
		f.Add(append(framed(greetingOf(plugin, false), 0), full...))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		var told bytes.Buffer
		l := &login{address: &dsn{host: "10.0.0.1", user: "lockstep", tls: tlsDisable}, password: secret}
		l.Conn = script{Reader: bytes.NewReader(said), Writer: &told}
		if l.begin() != nil {
			return
		}
		response := append(make([]byte, fixedResponse), "lockstep\x00\x00"+pluginNative+"\x00"...)
		if _, err := l.Write(framed(response, 1)); err == nil && len(l.told) == 0 {
			t.Error("nothing came of it")
		}
		if strings.Contains(told.String(), secret) {
			t.Errorf("%q was told %q", said, told.String())
		}
	})
}

// script is a connection whose other end says what it says whatever it is told.
type script struct {
	net.Conn
	io.Reader
	io.Writer
}

func (s script) Read(b []byte) (int, error)  { return s.Reader.Read(b) }
func (s script) Write(b []byte) (int, error) { return s.Writer.Write(b) }

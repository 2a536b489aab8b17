package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/impostor"
)

// liar answers in place of a server, and keeps all that it is told, under the TLS that it speaks with a certificate of its own.
type liar struct {
	asks pgproto3.BackendMessage
	seal *tls.Config // nil: no TLS

	mu   sync.Mutex
	told []byte
}

const (
	secret     = "corr3ct-h0rse"
	sslRequest = 80877103
)

func (i *liar) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	// hear reads a message that begins with its kind, or the first, which has none.
	hear := func(kind int) ([]byte, error) {
		header := make([]byte, kind+4)
		if _, err := io.ReadFull(conn, header); err != nil {
			return nil, err
		}
		message := make([]byte, max(int(binary.BigEndian.Uint32(header[kind:]))-4, 0))
		_, err := io.ReadFull(conn, message)
		i.mu.Lock()
		defer i.mu.Unlock()
		i.told = append(append(i.told, header...), message...)
		return message, err
	}
	first, err := hear(0)
	if err == nil && binary.BigEndian.Uint32(first) == sslRequest {
		if i.seal == nil {
			_, err = conn.Write([]byte("N"))
		} else {
			_, err = conn.Write([]byte("S"))
			conn = tls.Server(conn, i.seal)
		}
		if err == nil {
			_, err = hear(0)
		}
	}
	if err != nil {
		return
	}
	question, _ := i.asks.Encode(nil)
	_, _ = conn.Write(question)
	if _, err := hear(1); err == nil {
		no, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", Code: invalidPassword, Message: "no"}).Encode(nil)
		_, _ = conn.Write(no)
	}
}

// ask has a member log in to the impostor, and returns what came of it and what the impostor was told. Another host than this one's is
// where it can be reached too.
func (i *liar) ask(t *testing.T, host, parameters string) (told []byte, failed error) {
	t.Helper()
	address, end := impostor.Listen(t, i.serve)
	_, port, _ := net.SplitHostPort(address)
	o := Options{Member: "m", DSN: fmt.Sprintf("postgres://lockstep@%s:%s/db%s", host, port, parameters), Password: func() (string, error) { return secret, nil }}
	config, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return cdc.Dial(ctx, network, address)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := o.connectBy(ctx, config, false)
	if err == nil {
		hangUp(conn)
	} else {
		err = o.refused(err)
	}
	end()
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.told, err
}

// gives reports whether the password is in what was told, in clear text or as the MD5 that is worth as much.
func gives(told []byte) bool {
	return bytes.Contains(told, []byte(secret)) || bytes.Contains(told, []byte("\x28md5"))
}

// Whoever answers at the address of a server asks for the password in every way that the protocol has. What it is told is a proof at
// most, which is good for nobody else.
func TestImpostorIsNotToldThePassword(t *testing.T) {
	seal, authority := impostor.SelfSigned(t)
	asks := map[string]pgproto3.BackendMessage{
		"in clear text": &pgproto3.AuthenticationCleartextPassword{},
		"by MD5":        &pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}},
	}
	for name, ask := range asks {
		for _, host := range []string{"127.0.0.1", "10.0.0.1"} {
			for _, parameters := range []string{"", "?sslmode=disable", "?sslmode=allow", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=verify-full", "?sslmode=disable&require_auth=scram-sha-256"} {
				for _, seal := range []*tls.Config{nil, seal} {
					t.Run(fmt.Sprintf("%s %s%s TLS %v", name, host, parameters, seal != nil), func(t *testing.T) {
						told, err := (&liar{asks: ask, seal: seal}).ask(t, host, parameters)
						if !cdc.IsSetup(err) || strings.Contains(err.Error(), "\n") {
							t.Errorf("%v, want a line for the operator", err)
						}
						if len(told) == 0 || gives(told) {
							t.Errorf("it was told %q", told)
						}
						if host == "10.0.0.1" && parameters == "" && bytes.Contains(told, []byte("lockstep")) {
							t.Errorf("it was told who we are: %q", told)
						}
					})
				}
			}
		}
		for _, parameters := range []string{"?sslmode=disable&require_auth=password,md5", "?sslmode=verify-full&sslrootcert=" + authority, "?sslmode=verify-ca&sslrootcert=" + authority} {
			t.Run("a server that may know, "+name+parameters, func(t *testing.T) {
				told, err := (&liar{asks: ask, seal: seal}).ask(t, "127.0.0.1", parameters)
				if !gives(told) || !cdc.IsDenied(err) {
					t.Errorf("%v, told %q", err, told)
				}
			})
		}
	}
}

// A proof by SCRAM is for whoever asks: it tells nothing that could be used elsewhere.
func TestImpostorIsToldNoMoreByTheWayThatProofsTake(t *testing.T) {
	told, err := (&liar{asks: &pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}}).ask(t, "127.0.0.1", "?sslmode=disable")
	if err == nil || errors.Is(err, context.DeadlineExceeded) || !bytes.Contains(told, []byte("SCRAM-SHA-256")) || gives(told) {
		t.Errorf("%v, told %q", err, told)
	}
}

// Whoever answers announces as much as a message may have, and sends nothing: that much memory was set aside for it at each attempt.
func TestImpostorCannotHaveMemorySetAside(t *testing.T) {
	server := impostor.Serve(t, func(conn net.Conn) {
		_, _ = conn.Write([]byte{'R', 0x3f, 0xff, 0xff, 0xf0})
		impostor.Hang(conn)
	})
	o := Options{Member: "m", DSN: "postgres://lockstep@" + server.Address + "/db?sslmode=disable"}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	conn, err := o.connect(t.Context(), false)
	runtime.ReadMemStats(&after)
	if err == nil {
		hangUp(conn)
	}
	if err == nil || !strings.Contains(err.Error(), "invalid body length") {
		t.Errorf("%v", err)
	}
	if set := after.TotalAlloc - before.TotalAlloc; set > 64<<20 {
		t.Errorf("%d MB were set aside", set>>20)
	}
}

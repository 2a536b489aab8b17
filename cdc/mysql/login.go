package mysql

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"

	wire "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// login is the connection beneath the driver, and logs in in its place. The driver would tell any server its password that
// asks for it, in clear or under a key of the server's own choice: so it is never given one. It sees a greeting that asks for none;
// what it answers is taken for its flags and attributes, and the server's verdict is its answer. From there on all goes through.
//
//	server                login                     driver
//	  ── greeting ─────────▶ ── greeting, no TLS ────▶
//	  ◀─ TLS, response ───── ◀─ response, no password
//	  ◀─ exchange of the ──▶
//	     plugin
//	  ── OK or error ──────▶ ── the same ────────────▶
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html
type login struct {
	net.Conn // to the server, within TLS once that began
	address  *dsn
	password string
	tls      *tls.Config // nil: none

	encrypted bool
	greeting  greeting
	sequence  byte   // of the next packet to the server
	told      []byte // what the driver has yet to read
	over      bool
	failed    error // why we did not go on
}

// Methods by which a server asks for a password. The first three prove that we know it without telling it.
const (
	pluginNative  = wire.AUTH_NATIVE_PASSWORD
	pluginSHA2    = wire.AUTH_CACHING_SHA2_PASSWORD
	pluginEd25519 = wire.AUTH_MARIADB_ED25519
	pluginSHA256  = wire.AUTH_SHA256_PASSWORD
	pluginClear   = wire.AUTH_CLEAR_PASSWORD
)

// nonceSizes are the random bytes that they use of those that the server sends; a 0 may follow.
var nonceSizes = map[string]int{pluginNative: 20, pluginSHA2: 20, pluginEd25519: 32, pluginSHA256: 20, pluginClear: 0}

// begin reads the server's greeting.
func (l *login) begin() error {
	packet, err := l.read()
	if err != nil {
		return err
	}
	if packet[0] == wire.ERR_HEADER { // such as too many connections: for the driver to read
		l.tell(packet, 0)
		l.over = true
		return nil
	}
	if l.greeting, err = readGreeting(packet); err != nil {
		return err
	}
	l.tell(l.greeting.harmless, 0)
	return nil
}

// Read implements [net.Conn].
func (l *login) Read(b []byte) (int, error) {
	if len(l.told) > 0 {
		n := copy(b, l.told)
		l.told = l.told[n:]
		return n, nil
	}
	return l.Conn.Read(b)
}

// Write implements [net.Conn]. What the driver writes first is its answer to the greeting.
func (l *login) Write(b []byte) (int, error) {
	if l.over {
		return l.Conn.Write(b)
	}
	l.over = true
	verdict, err := l.answer(b[min(len(b), 4):])
	l.password = "" // of no use any more
	if err != nil {
		l.failed = err
		return 0, err
	}
	l.tell(verdict, b[3]+1)
	return len(b), nil
}

// tell has the driver read a packet.
func (l *login) tell(packet []byte, sequence byte) { l.told = framed(packet, sequence) }

func framed(packet []byte, sequence byte) []byte {
	n := len(packet)
	return append([]byte{byte(n), byte(n >> 8), byte(n >> 16), sequence}, packet...)
}

func (l *login) write(packet []byte) error {
	_, err := l.Conn.Write(framed(packet, l.sequence))
	l.sequence++
	return err
}

// maxLogin bounds a packet of a server that we do not know yet.
const maxLogin = 64 << 10

// read returns a packet that is not empty.
func (l *login) read() ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(l.Conn, header[:]); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	n := int(header[0]) | int(header[1])<<8 | int(header[2])<<16
	if n == 0 || n > maxLogin {
		return nil, fmt.Errorf("the server sent a packet of %d bytes where a login was to go on", n)
	}
	l.sequence = header[3] + 1
	packet := make([]byte, n)
	_, err := io.ReadFull(l.Conn, packet)
	return packet, err
}

// greeting is Protocol::HandshakeV10.
type greeting struct {
	flags    uint32
	nonce    []byte
	plugin   string
	harmless []byte // the same, for the driver: without TLS, and by a plugin that makes nothing of no password
}

var errGreeting = errors.New("the server's greeting is none of MySQL's protocol, version 10")

func readGreeting(packet []byte) (greeting, error) {
	// version  server  0  thread  nonce  0  flags  charset  status  flags  length  reserved  nonce    plugin
	//    1       ?     1    4       8    1    2       1        2      2      1        10     length-8  …  0
	end := bytes.IndexByte(packet, 0)
	if packet[0] != wire.ClassicProtocolVersion || end < 0 || len(packet) < end+32 {
		return greeting{}, errGreeting
	}
	fixed := packet[end+1:]
	g := greeting{flags: uint32(binary.LittleEndian.Uint16(fixed[13:])) | uint32(binary.LittleEndian.Uint16(fixed[18:]))<<16}
	if old := wire.CLIENT_PROTOCOL_41 | wire.CLIENT_SECURE_CONNECTION | wire.CLIENT_PLUGIN_AUTH; g.flags&old != old {
		return greeting{}, errGreeting
	}
	rest := max(int(fixed[20])-8, 13)
	if len(fixed) < 31+rest {
		return greeting{}, errGreeting
	}
	g.nonce = append(bytes.Clone(fixed[:0]), fixed[4:12]...)
	g.nonce = append(g.nonce, fixed[31:31+rest-1]...)
	name, _, _ := bytes.Cut(fixed[31+rest:], []byte{0})
	g.plugin = string(name)

	before := len(packet) - len(fixed) + 31 + rest
	g.harmless = append(bytes.Clone(packet[:before]), pluginNative+"\x00"...)
	low := g.harmless[end+1+13:]
	binary.LittleEndian.PutUint16(low, uint16(g.flags&^wire.CLIENT_SSL))
	return g, nil
}

// fixedResponse is what Protocol::HandshakeResponse41 begins with: flags, size of packets, charset, reserved.
const fixedResponse = 32

// answer logs in, by what the driver would have sent, and returns what the server says to it in the end.
func (l *login) answer(response []byte) (verdict []byte, err error) {
	if len(response) < fixedResponse {
		return nil, errors.New("the driver's login is too short")
	}
	fixed := bytes.Clone(response[:fixedResponse])
	// user  0  length of the proof (0)  plugin  0  attributes
	_, rest, _ := bytes.Cut(response[fixedResponse:], []byte{0})
	_, attributes, ok := bytes.Cut(rest[min(len(rest), 1):], []byte{0})
	if !ok {
		return nil, errors.New("the driver's login has another form than it had")
	}
	if err := l.encrypt(fixed); err != nil {
		return nil, err
	}
	plugin := l.greeting.plugin
	if plugin != pluginSHA2 { // the server asks for another one where the account has another one
		plugin = pluginNative
	}
	proof, err := l.prove(plugin, l.greeting.nonce)
	if err != nil {
		return nil, err
	}
	packet := append(fixed, l.address.user+"\x00"...)
	packet = append(packet, byte(len(proof))) // 32 at most
	packet = append(packet, proof...)
	packet = append(packet, plugin+"\x00"...)
	if err := l.write(append(packet, attributes...)); err != nil {
		return nil, err
	}
	return l.exchange(plugin, l.greeting.nonce)
}

// encrypt begins TLS, before the server knows more than that we want it. Who it is, tls.Config judges.
func (l *login) encrypt(fixed []byte) error {
	if l.tls == nil {
		return nil
	}
	if l.greeting.flags&wire.CLIENT_SSL == 0 {
		if l.address.tls == tlsPreferred {
			return nil
		}
		return &cdc.SetupError{Problem: "the server has no TLS", Hint: "set it up on the server, or write tls=preferred in the dsn, which lets anybody on the way read along and pose as the server"}
	}
	flags := binary.LittleEndian.Uint32(fixed) | wire.CLIENT_SSL
	binary.LittleEndian.PutUint32(fixed, flags)
	if err := l.write(fixed); err != nil {
		return err
	}
	sealed := tls.Client(l.Conn, l.tls)
	if err := sealed.Handshake(); err != nil {
		return l.address.unproven(err)
	}
	l.Conn, l.encrypted = sealed, true
	return nil
}

// exchange answers the server until it says OK or an error.
func (l *login) exchange(plugin string, nonce []byte) (verdict []byte, err error) {
	for {
		packet, err := l.read()
		if err != nil {
			return nil, err
		}
		var reply []byte
		switch packet[0] {
		case wire.OK_HEADER, wire.ERR_HEADER:
			return packet, nil
		case wire.EOF_HEADER: // AuthSwitchRequest
			name, data, _ := bytes.Cut(packet[1:], []byte{0})
			plugin, nonce = string(name), data
			reply, err = l.prove(plugin, nonce)
		case wire.MORE_DATE_HEADER:
			if plugin == pluginSHA2 && bytes.Equal(packet[1:], []byte{wire.CACHE_SHA2_FAST_AUTH}) {
				continue
			}
			if plugin != pluginSHA2 || !bytes.Equal(packet[1:], []byte{wire.CACHE_SHA2_FULL_AUTH}) {
				return nil, fmt.Errorf("the server asks for more than %s has", plugin)
			}
			reply, err = l.give(plugin, nonce)
		default:
			return nil, fmt.Errorf("the server answers a login by a packet of kind %#x", packet[0])
		}
		if err != nil {
			return nil, err
		}
		if err := l.write(reply); err != nil {
			return nil, err
		}
	}
}

// prove is our answer to a plugin that asks who we are.
func (l *login) prove(plugin string, nonce []byte) ([]byte, error) {
	size, known := nonceSizes[plugin]
	if !known {
		return nil, &cdc.SetupError{Problem: fmt.Sprintf("the server asks for the password by %q, which lockstep does not know", plugin),
			Hint: fmt.Sprintf("give the account another kind of password: ALTER USER %s IDENTIFIED BY '...';", quoteAccount(l.address.user+"@%"))}
	}
	if len(nonce) < size {
		return nil, fmt.Errorf("the server asks for %s with %d random bytes instead of %d", plugin, len(nonce), size)
	}
	switch plugin {
	case pluginNative:
		return wire.CalcNativePassword(nonce[:size], []byte(l.password)), nil
	case pluginSHA2:
		return wire.CalcCachingSha2Password(nonce[:size], []byte(l.password)), nil
	case pluginEd25519:
		return wire.CalcEd25519Password(nonce[:size], l.password)
	}
	return l.give(plugin, nonce)
}

// give is the password itself, for a server that asks for no less. Whoever poses as it would have it: so it is for one that has
// proven who it is, or for any if the DSN says so.
func (l *login) give(plugin string, nonce []byte) ([]byte, error) {
	if l.password != "" && !l.address.proof().Sure() && !l.address.insecurePassword {
		return nil, &cdc.SetupError{
			Problem: fmt.Sprintf("the server asks for the password itself (%s) and has not proven who it is, so it was not sent", plugin),
			Hint: "write tls=verify-full and tls_ca=FILE in the dsn (tls=verify-ca for a certificate that is not for this host's name), connect by socket=PATH, " +
				"or let anybody have it who answers at this address: insecure_password=allow",
			Denied: true,
		}
	}
	if l.password == "" || l.encrypted || plugin == pluginClear || l.address.socket != "" {
		return append([]byte(l.password), 0), nil
	}
	return l.underItsKey(plugin, nonce)
}

// underItsKey asks the server for a public key, and encrypts the password by it.
func (l *login) underItsKey(plugin string, nonce []byte) ([]byte, error) {
	ask := byte(1)
	if plugin == pluginSHA2 {
		ask = 2
	}
	if err := l.write([]byte{ask}); err != nil {
		return nil, err
	}
	packet, err := l.read()
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(packet[1:])
	if block == nil {
		return nil, fmt.Errorf("the server has no key for %s", plugin)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the server's key for %s: %w", plugin, err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the server's key for %s is none of RSA", plugin)
	}
	return wire.EncryptPassword(l.password, nonce[:20], public)
}

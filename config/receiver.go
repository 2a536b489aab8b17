package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The kinds of receivers.
const (
	WebhookKind   = "webhook"
	PagerDutyKind = "pagerduty"
	SlackKind     = "slack"
)

// Receiver is somewhere news of alerts go.
type Receiver struct {
	Kind string // one of the kinds
	Name string // what it was told is kept under it
	URL  Secret // hooks often carry their token in the path; may be empty but for a webhook
	// SecretFile holds the key that signs what a webhook is sent, PagerDuty's routing key, or the URL of a Slack hook. Empty
	// only for a webhook: unsigned.
	SecretFile string
	ClearText  bool // the secret may be read on the way
	Match      Match
}

// Secret reads SecretFile anew. It is empty if there is none.
func (r *Receiver) Secret() (Secret, error) {
	if r.SecretFile == "" {
		return "", nil
	}
	secret, err := ReadSecret(r.SecretFile)
	if err != nil {
		return "", fmt.Errorf("secret of receiver %s: %w", r.Name, err)
	}
	if to, err := url.Parse(secret.Reveal()); r.Kind == SlackKind && !r.ClearText && err == nil && InClear(to) {
		return "", fmt.Errorf("the address in %s is one without TLS, and whoever has it can post: write https://, or clear_text: true for receiver %s", r.SecretFile, r.Name)
	}
	return secret, nil
}

// Match says of which alerts a receiver is told. What is left out does not matter.
type Match struct {
	Severities, Groups, Members []string
	Tables                      []string // patterns, as in [Tables]
}

// Fits reports whether an alert with these labels is told.
func (m Match) Fits(labels map[string]string) bool {
	among := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	return among(m.Severities, labels["severity"]) && among(m.Groups, labels["group"]) && among(m.Members, labels["member"]) &&
		(len(m.Tables) == 0 || slices.ContainsFunc(m.Tables, func(pattern string) bool { return glob(pattern, labels["table"]) }))
}

// Expected are writes of a member's own that are known: what differs because of them is shown, but raises no alert.
type Expected struct {
	Members []string // empty: all but the reference
	Tables  []string // patterns, as in [Tables]
	Kinds   []string // of divergences; empty: all
	// FirstKey and LastKey bound the keys of the one table, as JSON; nil: nothing does.
	FirstKey, LastKey json.RawMessage
}

// ExpectedWrites returns what is expected of a kind in a table on a member.
func (g *Group) ExpectedWrites(member, table, kind string) (list []Expected) {
	for _, e := range g.Expected {
		if (len(e.Members) == 0 || slices.Contains(e.Members, member)) && (len(e.Kinds) == 0 || slices.Contains(e.Kinds, kind)) &&
			slices.ContainsFunc(e.Tables, func(pattern string) bool { return glob(pattern, table) }) {
			list = append(list, e)
		}
	}
	return list
}

// secretKey is the key that names each kind's secret.
var secretKey = map[string]string{WebhookKind: "secret_file", PagerDutyKind: "routing_key_file", SlackKind: "url_file"}

func decodeReceiver(n node, kind string, names unique) Receiver {
	const remedy = "write it like https://hooks.example/lockstep"
	known := []string{"name", "url", secretKey[kind], "match", "clear_text"}
	if kind == SlackKind {
		known = slices.Delete(known, 1, 2)
	}
	f := n.fields(known...)
	r := Receiver{Kind: kind, SecretFile: f[secretKey[kind]].expanded(), ClearText: f["clear_text"].claim(), Match: decodeMatch(f["match"])}
	switch kind {
	case WebhookKind:
		f["url"].require(remedy)
	case PagerDutyKind:
		f["routing_key_file"].require("name the file that holds the integration's routing key")
	case SlackKind:
		f["url_file"].require("name the file that holds the URL of the incoming webhook")
	}
	if kind != SlackKind {
		r.URL = Secret(f["url"].expanded())
	}
	if r.URL != "" {
		to := checkURL(f["url"], r.URL.Reveal(), remedy)
		checkSecretTo(f["url"], to, "the routing key", r.ClearText || kind != PagerDutyKind)
	}
	r.Name = f["name"].text()
	switch {
	case r.Name == "":
		// The same place has the same name after a restart.
		sum := sha256.Sum256([]byte(r.URL.Reveal() + "\n" + r.SecretFile))
		r.Name = kind + "-" + hex.EncodeToString(sum[:4])
		names.check(n, r.Name)
	case !memberName.MatchString(r.Name):
		f["name"].fail(fmt.Sprintf("%q is not a usable name", r.Name), "use letters, digits, dot, hyphen and _")
	default:
		names.check(f["name"], r.Name)
	}
	return r
}

func decodeMatch(n node) Match {
	f := n.fields("severity", "groups", "members", "tables")
	return Match{
		Severities: f["severity"].words("%q is no severity", "critical", "warning"),
		Groups:     f["groups"].texts(), Members: f["members"].texts(), Tables: f["tables"].texts(),
	}
}

var kinds = []string{"changed", "missing", "extra", "stale"}

func decodeExpected(n node, g *Group) Expected {
	f := n.fields("tables", "members", "kinds", "first_key", "last_key")
	f["tables"].require(`list patterns of schema.table, such as ["public.local_*"]`)
	e := Expected{Tables: f["tables"].texts(), Members: f["members"].texts(), Kinds: f["kinds"].words("%q is no kind of divergence", kinds...), FirstKey: decodeKey(f["first_key"]), LastKey: decodeKey(f["last_key"])}
	if one := len(e.Tables) == 1 && !strings.ContainsAny(e.Tables[0], "*?"); !one && (e.FirstKey != nil || e.LastKey != nil) {
		f["tables"].fail("is more than one table, and keys are those of one", "name one table without * and ?")
	}
	for _, m := range e.Members {
		if g.Member(m) == nil {
			f["members"].fail(fmt.Sprintf("%q is no member of the group", m), "name its members, or leave the key out")
		}
	}
	return e
}

// decodeKey reads a key that is written as JSON in quotes.
func decodeKey(n node) json.RawMessage {
	text := n.text()
	if text == "" {
		return nil
	}
	if !json.Valid([]byte(text)) {
		n.fail("is not JSON", `write it like '{"id": 1000}' or, of a key of one column, like '1000'`)
	}
	return json.RawMessage(text)
}

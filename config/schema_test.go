package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// refuses says what a schema has against a value, as far as JSON Schema's words that it uses go; empty: nothing.
func (s *Schema) refuses(path string, v any) string {
	switch s.Type {
	case "object":
		m, ok := v.(map[string]any)
		if !ok {
			return path + " is no object"
		}
		for _, name := range s.Required {
			if _, there := m[name]; !there {
				return path + " lacks " + name
			}
		}
		for name, value := range m {
			p := s.Properties[name]
			if p == nil {
				return path + " has " + name
			}
			if why := p.refuses(path+"."+name, value); why != "" {
				return why
			}
		}
		return ""
	case "array":
		list, ok := v.([]any)
		if !ok {
			return path + " is no array"
		}
		for i, value := range list {
			if why := s.Items.refuses(fmt.Sprintf("%s[%d]", path, i), value); why != "" {
				return why
			}
		}
		return ""
	case "boolean":
		if _, ok := v.(bool); ok {
			return ""
		}
	case "string":
		if text, ok := v.(string); ok && regexp.MustCompile(s.Pattern).MatchString(text) && (s.Enum == nil || slices.Contains(s.Enum, text)) {
			return ""
		}
	case "integer":
		if n, err := json.Number(fmt.Sprint(v)).Int64(); err == nil && n >= int64(s.Minimum) {
			return ""
		}
	}
	return fmt.Sprintf("%s is not what %q says", path, s.Type)
}

// keys lists all that a schema knows.
func (s *Schema) keys(path string, seen map[string]bool) {
	for name, p := range s.Properties {
		seen[path+"."+name] = true
		p.keys(path+"."+name, seen)
	}
	if s.Items != nil {
		s.Items.keys(path+"[]", seen)
	}
	if s.Type == "" {
		seen[path+" has no type"] = true
	}
	if s.Description == "" && strings.Contains(path, ".") && !strings.HasSuffix(path, "[]") {
		seen[path+" has no description"] = true
	}
}

func parsed(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// spoiled calls a function with a value once for each place in it that something can be wrong at, with that wrong.
func spoiled(root, v any, path string, try func(path string)) {
	put := func(m map[string]any, name string, value any, what string) {
		old, there := m[name]
		m[name] = value
		try(path + "." + name + " " + what)
		if delete(m, name); there {
			m[name] = old
		}
	}
	switch v := v.(type) {
	case map[string]any:
		put(v, "nosuch", "x", "is added")
		for _, name := range slices.Sorted(maps.Keys(v)) {
			old := v[name]
			switch old.(type) {
			case map[string]any, []any:
				put(v, name, "text", "is text")
			default:
				put(v, name, []any{"a"}, "is a list")
				put(v, name, map[string]any{"a": "b"}, "is a mapping")
			}
			spoiled(root, old, path+"."+name, try)
		}
	case []any:
		for i := range v {
			spoiled(root, v[i], fmt.Sprintf("%s[%d]", path, i), try)
		}
	}
}

// What the schema takes and refuses is what the decoder does: the example, and the example with each thing wrong in it.
func TestTheSchemaSaysWhatTheDecoderDoes(t *testing.T) {
	s := Describe()
	example := parsed(t, Example)
	if why := s.refuses("example", example); why != "" {
		t.Error(why)
	}
	tried := 0
	spoiled(example, example, "", func(path string) {
		text, err := yaml.Marshal(example)
		if err != nil {
			t.Fatal(err)
		}
		tried++
		if _, err := Parse("file", text); err == nil || s.refuses("file", parsed(t, text)) == "" {
			t.Errorf("%s: the decoder says %v, the schema %q", path, err, s.refuses("file", parsed(t, text)))
		}
	})
	if tried < 90 {
		t.Errorf("only %d mistakes were tried", tried)
	}
	for _, key := range []string{"data_dir", "groups"} {
		less := parsed(t, Example)
		delete(less, key)
		if s.refuses("file", less) == "" {
			t.Errorf("without %s", key)
		}
	}
}

// What may be one of a few words is that to editors, too.
func TestTheSchemaKnowsTheWords(t *testing.T) {
	s := Describe()
	group := s.Properties["groups"].Items
	for want, got := range map[string][]string{
		"postgres mysql mariadb":      group.Properties["engine"].Enum,
		"changed missing extra stale": group.Properties["expected_writes"].Items.Properties["kinds"].Items.Enum,
		"on off":                      group.Properties["tables"].Properties["overrides"].Items.Properties["row_index"].Enum,
		"critical warning":            s.Properties["alerts"].Properties["webhook"].Items.Properties["match"].Properties["severity"].Items.Enum,
		"compliance governance":       s.Properties["audit"].Properties["copy"].Properties["mode"].Enum,
	} {
		if strings.Join(got, " ") != want {
			t.Errorf("it knows %q, want %q", got, want)
		}
	}
}

// Nothing is said of keys that there are not.
func TestWhatIsSaidIsOfAKey(t *testing.T) {
	seen := make(map[string]bool)
	Describe().keys("", seen)
	known := make(map[string]bool)
	for key := range seen {
		key = strings.TrimPrefix(strings.ReplaceAll(key, "[]", ""), ".")
		known[key], known[kindsOfReceivers.Replace(key)] = true, true
	}
	for key := range about {
		if !known[key] {
			t.Errorf("there is no key %s", key)
		}
	}
}

// A key that the decoder reads in a way that tells the schema nothing would be one that editors take for anything.
func TestTheSchemaKnowsWhatEveryKeyIs(t *testing.T) {
	seen := make(map[string]bool)
	Describe().keys("", seen)
	for key := range seen {
		if strings.Contains(key, " has no ") {
			t.Error(key)
		}
	}
	for _, key := range []string{
		".listen", ".roles.viewer", ".groups[].members[].scan_only", ".groups[].tables.overrides[].row_index", ".groups[].canary.every", ".groups[].expected_writes[].first_key",
		".alerts.webhook[].match.severity", ".alerts.slack[].url_file", ".alerts.pagerduty[].routing_key_file", ".audit.copy.secret_key_file", ".audit.witnesses[].key",
		".audit.timestamps.ca_file",
	} {
		if !seen[key] {
			t.Errorf("does not know %s", key)
		}
	}
	s := Describe()
	if s.Properties["alerts"].Properties["slack"].Items.Properties["url"] != nil || !slices.Equal(s.Properties["groups"].Items.Required, []string{"engine", "members", "name", "tables"}) {
		t.Errorf("%+v", s.Properties["groups"].Items)
	}
}

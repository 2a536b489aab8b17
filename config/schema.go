package config

import (
	"maps"
	"slices"
)

// Schema describes a value of the configuration in the words of JSON Schema (https://json-schema.org/draft/2020-12/schema), for
// editors. It is what the decoder asks for: the decoder itself is run, on nothing, and says of each key what it reads; what the key is
// for is in a table.
type Schema struct {
	Dialect     string             `json:"$schema,omitempty"` // of the root
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Minimum     int                `json:"minimum,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Additional  *bool              `json:"additionalProperties,omitempty"` // false where keys that are not known are errors
	Required    []string           `json:"required,omitempty"`
	Items       *Schema            `json:"items,omitempty"`

	required bool // of what it is a property of
}

// Describe returns the schema of a configuration.
func Describe() *Schema {
	s := &Schema{Dialect: "https://json-schema.org/draft/2020-12/schema", Title: "lockstep's configuration"}
	decodeConfig(node{describes: s, problems: &problems{}})
	s.complete()
	s.describe("")
	return s
}

// complete lists the properties that have to be there.
func (s *Schema) complete() {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		if p.complete(); p.required {
			s.Required = append(s.Required, name)
		}
	}
	if s.Items != nil {
		s.Items.complete()
	}
}

// a notes what type a value is read as. Of one that is read twice, as by way of its own functions, the first counts.
func (s *Schema) a(kind string) {
	if s != nil && s.Type == "" {
		s.Type = kind
	}
}

// of notes that a value is a mapping with keys, and returns the schema of one; nil if nothing is described.
func (s *Schema) of(key string) *Schema {
	if s == nil {
		return nil
	}
	s.a("object")
	if s.Properties == nil {
		none := false
		s.Properties, s.Additional = make(map[string]*Schema), &none
	}
	if s.Properties[key] == nil {
		s.Properties[key] = &Schema{}
	}
	return s.Properties[key]
}

// item notes that a value is a list, and returns the schema of what is in it.
func (s *Schema) item() *Schema {
	s.a("array")
	if s.Items == nil {
		s.Items = &Schema{}
	}
	return s.Items
}

// durations are what [time.ParseDuration] takes, without signs.
const durations = `^([0-9]+([.][0-9]*)?(ns|us|µs|ms|s|m|h))+$`

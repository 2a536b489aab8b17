package config

import _ "embed"

// Example is a configuration file that shows every key, with comments.
//
//go:embed example.yaml
var Example []byte

package sbom

import (
	"encoding/base64"
	"runtime/debug"
	"strings"
	"testing"
)

func TestAModuleWithoutAHashIsNotReleased(t *testing.T) {
	for _, m := range []*debug.Module{
		{Path: "example.org/a", Version: "v1.0.0"}, {Path: "example.org/a", Version: "v1.0.0", Sum: "h1:AAAA"},
		{Path: "example.org/a", Version: "v1.0.0", Sum: "h1:" + base64.StdEncoding.EncodeToString(make([]byte, 32)), Replace: &debug.Module{Path: "../a"}},
	} {
		if c, err := moduleOf(m); err == nil || !strings.Contains(err.Error(), "go.sum") {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

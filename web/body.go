package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/names"
)

// read reads the body of a request, or fails it. It wants JSON by name: no page of another site can make a browser send that.
func (s *Server) read(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		s.fail(w, http.StatusUnsupportedMediaType, "send application/json")
		return false
	}
	data, err := io.ReadAll(r.Body)
	if err == nil && len(data) > 0 {
		err = decode(data, into)
	}
	if err != nil {
		s.fail(w, http.StatusBadRequest, "the body cannot be read: %v", err)
		return false
	}
	return true
}

// decode reads one JSON object into a struct. What is wrong is told by the names that the fields have in JSON: those of Go's types say
// nothing to who sent it.
func decode(data []byte, into any) error {
	var sent map[string]json.RawMessage
	if err := json.Unmarshal(data, &sent); err != nil {
		if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
			return fmt.Errorf("it is a JSON %s: want an object, {…}", wrong.Value)
		}
		return err
	}
	fields := reflect.ValueOf(into).Elem()
	var known []string
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Type().Field(i).Tag.Get("json"), ",")
		known = append(known, name)
		value, given := sent[name]
		if given && json.Unmarshal(value, fields.Field(i).Addr().Interface()) != nil {
			return fmt.Errorf("%s: want %s", name, wanted(fields.Field(i).Interface()))
		}
	}
	for name := range sent {
		if err := names.Check("field", name, "", known); err != nil {
			return err
		}
	}
	return nil
}

// wanted says what a field takes.
func wanted(field any) string {
	switch field.(type) {
	case string:
		return `a text, "…"`
	case []string:
		return `a list of texts, ["…"]`
	case time.Time:
		return `a time, such as "2026-01-31T00:00:00Z"`
	}
	return "another value"
}

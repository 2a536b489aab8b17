package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

const (
	// maxRequest bounds the body of a request.
	maxRequest = 1 << 20
	// largeAnswer is the size from which answers count, and largeAnswers how much of such may wait for clients who do not read.
	largeAnswer  = 256 << 10
	largeAnswers = 64 << 20
)

// answer is what a request is answered, before any of it is sent: who answers waits for no client.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// send sends it. held counts what of large ones is still to be sent, to all clients.
func (a *answer) send(w http.ResponseWriter, held *atomic.Int64) {
	if size := int64(a.body.Len()); size > largeAnswer {
		defer held.Add(-size)
		if before := held.Add(size) - size; before > 0 && before+size > largeAnswers {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too much is being sent to clients who read slowly: ask again", http.StatusServiceUnavailable)
			return
		}
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.code != 0 {
		w.WriteHeader(a.code)
	}
	_, _ = w.Write(a.body.Bytes()) // who does not read is gone
}

// takeBody reads the body of a request, or answers why not.
func takeBody(w http.ResponseWriter, r *http.Request) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		failure(w, http.StatusRequestEntityTooLarge, "the body of the request is larger than 1 MiB")
	case err != nil:
		failure(w, http.StatusRequestTimeout, "the body of the request did not come: "+err.Error())
	default:
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return err == nil
}

package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
)

// Client asks a witness for cosignatures. It is not for concurrent use.
type Client struct {
	URL string // without /add-checkpoint
	Key *Key

	last uint64 // entries that the witness has cosigned, as far as is known
}

// Prove returns the hashes which show that a log of `to` entries continues that of `from` (RFC 6962, section 2.1.2).
type Prove func(ctx context.Context, from, to uint64) ([][]byte, error)

// answerTime bounds how long a witness may take.
const answerTime = 15 * time.Second

// Cosign returns a checkpoint with the witness's cosignature.
func (c *Client) Cosign(ctx context.Context, checkpoint []byte, prove Prove) ([]byte, error) {
	var at log.Checkpoint
	if _, err := at.Unmarshal(checkpoint); err != nil {
		return nil, fmt.Errorf("checkpoint of the log: %w", err)
	}
	c.last = min(c.last, at.Size)
	cosignature, err := c.add(ctx, checkpoint, at.Size, prove)
	var behind errOtherSize
	if errors.As(err, &behind) { // once more, with what the witness says
		if c.last = uint64(behind); c.last > at.Size {
			return nil, fmt.Errorf("witness %s has cosigned %d entries of this log, which has %d: the log was put back to an older state, or it began anew", c.URL, c.last, at.Size)
		}
		cosignature, err = c.add(ctx, checkpoint, at.Size, prove)
	}
	if err != nil {
		return nil, fmt.Errorf("witness %s: %w", c.URL, err)
	}
	cosigned := append(bytes.Clone(checkpoint), cosignature...)
	if _, err := c.Key.Verify(cosigned); err != nil {
		return nil, fmt.Errorf("witness %s: %w", c.URL, err)
	}
	c.last = at.Size
	return cosigned, nil
}

// errOtherSize is of how many entries the last checkpoint was that the witness has cosigned.
type errOtherSize uint64

func (e errOtherSize) Error() string {
	return fmt.Sprintf("it says now that it has cosigned %d entries", uint64(e))
}

// add asks for the cosignature.
func (c *Client) add(ctx context.Context, checkpoint []byte, size uint64, prove Prove) ([]byte, error) {
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", c.last)
	if c.last > 0 && c.last < size {
		hashes, err := prove(ctx, c.last, size)
		if err != nil {
			return nil, fmt.Errorf("prove that %d entries continue %d: %w", size, c.last, err)
		}
		for _, h := range hashes {
			fmt.Fprintln(&body, base64.StdEncoding.EncodeToString(h))
		}
	}
	body.WriteByte('\n')
	body.Write(checkpoint)
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+"/add-checkpoint", &body)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err // the caller names the address
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxRequest))
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	switch {
	case answer.StatusCode == http.StatusOK:
		return text, nil
	case answer.StatusCode == http.StatusConflict && answer.Header.Get("Content-Type") == sizeType:
		n, err := strconv.ParseUint(strings.TrimSuffix(string(text), "\n"), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("it answers %q, which is no size of a log", text)
		}
		return nil, errOtherSize(n)
	}
	said, _, _ := strings.Cut(string(text), "\n")
	return nil, fmt.Errorf("%s: %.200q", answer.Status, said)
}

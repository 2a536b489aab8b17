package alerts

import (
	"errors"
	"net/url"
)

// withoutURL takes the URL out of an error of net/http: the paths of webhooks are often secret.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

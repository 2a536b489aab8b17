package mirror

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
)

// noLock is the code for a bucket without Object Lock
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLockConfiguration.html).
const noLock = "ObjectLockConfigurationNotFoundError"

// remedies are by S3's codes (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
var remedies = map[string]string{
	minio.AccessDenied: "allow the access key s3:ListBucket, s3:GetObject and s3:PutObject and, to lock objects, s3:PutObjectRetention and s3:GetBucketObjectLockConfiguration; " +
		"if none is given, see that the environment or the instance's role has one",
	minio.InvalidAccessKeyID:             "give an access key that the server knows",
	minio.SignatureDoesNotMatch:          "give the secret key that belongs to the access key",
	minio.NoSuchBucket:                   "create the bucket, with object lock enabled",
	noLock:                               createWithLock,
	minio.NotImplemented:                 "the server lacks it: use one with S3 Object Lock, or do not have objects retained",
	minio.RequestTimeTooSkewed:           "set the clock of this host, or the server's: they differ too much",
	minio.AuthorizationHeaderMalformed:   setRegion,
	minio.InvalidRegion:                  setRegion,
	"IllegalLocationConstraintException": setRegion,
	"PermanentRedirect":                  setRegion + ", and its endpoint",
}

const (
	createWithLock = "create a bucket with object lock enabled, or do not have objects retained"
	setRegion      = "set the region to that of the bucket"
)

// fault says which request has failed, and what to do.
func (m *Mirror) fault(what string, err error) error {
	var told *url.Error
	if errors.As(err, &told) { // which says the URL again
		err = told.Err
	}
	err = fmt.Errorf("audit mirror: bucket %s at %s: %s: %w", m.options.Bucket, m.host, what, err)
	if remedy := remedy(err); remedy != "" {
		return fmt.Errorf("%w: %s", err, remedy)
	}
	return err
}

func remedy(err error) string {
	var reply minio.ErrorResponse
	var stranger x509.UnknownAuthorityError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ""
	case errors.As(err, &stranger):
		return "give the certificate of the authority that signs the server's"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "write http:// before the endpoint, or have the server speak TLS"
	case !errors.As(err, &reply):
		return "see that the endpoint is right and can be reached from here"
	case reply.Code == "InvalidRequest" && strings.Contains(strings.ReplaceAll(reply.Message, " ", ""), "ObjectLockConfiguration"):
		return createWithLock
	case remedies[reply.Code] != "":
		return remedies[reply.Code]
	case reply.StatusCode >= http.StatusInternalServerError:
		return "the server cannot do it now; the next copy goes on from here"
	}
	return ""
}

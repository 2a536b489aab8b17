package mysql

import (
	"context"
	"fmt"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// A beacon is a lock by name: everybody may take and see one, and it is in no log. See
// https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html.
const (
	lightBeacon  = "SELECT GET_LOCK('lockstep %x', 0)"
	seeBeacon    = "SELECT IS_USED_LOCK('lockstep %x') IS NOT NULL"
	quenchBeacon = "SELECT RELEASE_LOCK('lockstep %x')"
)

// Light implements [cdc.Beacons].
func (s *Source) Light(ctx context.Context, b cdc.Beacon) (quench func(context.Context) error, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.call)
	defer cancel()
	c, err := s.known(ctx)
	if err != nil {
		return nil, s.wrap(err)
	}
	lit, err := c.yes(ctx, fmt.Sprintf(lightBeacon, uint64(b)))
	if err == nil && !lit {
		err = fmt.Errorf("the lock 'lockstep %x' is held by somebody else", uint64(b))
	}
	if err != nil {
		c.hangUp()
		return nil, s.wrap(err)
	}
	return func(ctx context.Context) error {
		defer c.hangUp()
		ctx, cancel := context.WithTimeout(ctx, s.call)
		defer cancel()
		burned, err := c.yes(ctx, fmt.Sprintf(quenchBeacon, uint64(b)))
		if err == nil && !burned {
			err = cdc.ErrQuenched
		}
		return s.wrap(err)
	}, nil
}

// Sees implements [cdc.Beacons].
func (s *Source) Sees(ctx context.Context, b cdc.Beacon) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.call)
	defer cancel()
	c, err := s.known(ctx)
	if err != nil {
		return false, s.wrap(err)
	}
	defer c.hangUp()
	seen, err := c.yes(ctx, fmt.Sprintf(seeBeacon, uint64(b)))
	return seen, s.wrap(err)
}

// yes asks a question that is answered by 1 or something else.
func (c *session) yes(ctx context.Context, query string) (bool, error) {
	answer, err := c.one(ctx, query, 1)
	return err == nil && answer.at(0) == "1", err
}

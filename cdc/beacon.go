package cdc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
)

// Beacon is a number that is lit by a connection to one server. Every other connection to that server sees it, and none to another
// server does, whatever was copied from which: what a server says of itself is on its disk, and a copy of the disk says the same.
type Beacon uint64

// NewBeacon returns one that nobody else lights.
func NewBeacon() Beacon {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return Beacon(binary.LittleEndian.Uint64(b[:]))
}

// Beacons are lit and seen by a member. Each call has a connection of its own, as [Reader.Server]'s has, to the server that the member
// said to be when it was last asked: by another one it is an error.
type Beacons interface {
	// Light lights a beacon. It burns until quench is called, or until its connection ends: then quench is an error. Nothing is written.
	Light(ctx context.Context, b Beacon) (quench func(context.Context) error, err error)
	// Sees reports whether a beacon burns on the member's server, whoever has lit it.
	Sees(ctx context.Context, b Beacon) (bool, error)
}

// Apart reports whether two members are two servers: one lights a beacon, and the other one does not see it while it burns. With an
// error it is not known.
func Apart(ctx context.Context, a, b Beacons) (bool, error) {
	beacon := NewBeacon()
	quench, err := a.Light(ctx, beacon)
	if err != nil {
		return false, err
	}
	seen, err := b.Sees(ctx, beacon)
	err = errors.Join(err, quench(ctx))
	if seen {
		return false, nil // whatever became of it afterwards
	}
	return err == nil, err
}

// ErrQuenched is for a beacon that did not burn until it was quenched.
var ErrQuenched = errors.New("its lock was gone before it was released")

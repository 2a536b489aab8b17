package cdc_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/internal/bubble"
)

var errDenied = &cdc.SetupError{Problem: "access denied", Denied: true}

// server counts logins, of which it takes those by its password.
type loginServer struct {
	password string
	down     bool
	logins   int
}

func (s *loginServer) login(l *cdc.Logins, password string) error {
	return l.Attempt(context.Background(), "lockstep", password, func() error {
		s.logins++
		switch {
		case s.down:
			return errors.New("connection refused")
		case password != s.password:
			return errDenied
		}
		return nil
	})
}

// Whoever asks and however often, an account that is turned down is tried three times in the first minute, and ever more seldom.
func TestWrongPasswordIsTriedEverMoreSeldom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s, l := &loginServer{password: "right"}, cdc.NewLogins()
		ask := func(d time.Duration) int {
			before := s.logins
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for ctx.Err() == nil {
						if err := s.login(l, "wrong"); !errors.Is(err, errDenied) {
							t.Errorf("it failed for another reason: %v", err)
						}
						<-time.After(250 * time.Millisecond)
					}
				})
			}
			all.Wait()
			return s.logins - before
		}
		if n := ask(time.Minute); n != 3 {
			t.Errorf("%d logins in the first minute", n)
		}
		if n := ask(9 * time.Minute); n > 3 {
			t.Errorf("%d more in ten minutes", n)
		}
		if n := ask(time.Hour); n > 7 {
			t.Errorf("%d more in an hour", n)
		}
	})
}

// A password that was not tried yet is tried at once, and one that was right is forgotten to have failed.
func TestAnotherPasswordIsTriedAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s, l := &loginServer{password: "right"}, cdc.NewLogins()
		if err := s.login(l, "wrong"); err == nil {
			t.Fatal("a wrong password is taken")
		}
		if err := s.login(l, "right"); err != nil {
			t.Errorf("the right one fails: %v", err)
		}
		for range 20 {
			if err := s.login(l, "right"); err != nil {
				t.Errorf("and again: %v", err)
			}
		}
		if s.logins != 22 {
			t.Errorf("%d logins", s.logins)
		}
	})
}

// Members of several groups may log in by one account, and not all need have the right password.
func TestWrongPasswordsOfOneAccountAreEachTriedEverMoreSeldom(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s, l := &loginServer{password: "right"}, cdc.NewLogins()
		for range 240 {
			for _, password := range []string{"wrong", "wrong too"} {
				if err := s.login(l, password); !errors.Is(err, errDenied) {
					t.Errorf("it failed for another reason: %v", err)
				}
			}
			before := s.logins
			if err := s.login(l, "right"); err != nil || s.logins != before+1 {
				t.Errorf("the right one fails: %v", err)
			}
			<-time.After(250 * time.Millisecond)
		}
		if n := s.logins - 240; n != 2*3 {
			t.Errorf("%d logins by two wrong passwords in the first minute", n)
		}
	})
}

// What an account cannot do is no reason to keep another one waiting.
func TestAccountsAreTriedEachForItself(t *testing.T) {
	l := cdc.NewLogins()
	if err := l.Attempt(t.Context(), "poor", "", func() error { return errDenied }); !errors.Is(err, errDenied) {
		t.Fatal(err)
	}
	if err := l.Attempt(t.Context(), "lockstep", "", func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// A server that was down is found soon after it is up.
func TestServerThatIsDownIsTriedOften(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s, l := &loginServer{password: "right", down: true}, cdc.NewLogins()
		for range 240 {
			_ = s.login(l, "right") // it is down
			<-time.After(250 * time.Millisecond)
		}
		if s.logins < 15 || s.logins > 30 {
			t.Errorf("%d logins in a minute", s.logins)
		}
		s.down = false
		<-time.After(4 * time.Second)
		if err := s.login(l, "right"); err != nil {
			t.Error(err)
		}
	})
}

// Who gives up is not the server that refuses.
func TestLoginThatWasGivenUpIsNoFailure(t *testing.T) {
	l := cdc.NewLogins()
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Attempt(ctx, "lockstep", "", func() error { cancel(); return ctx.Err() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := l.Attempt(t.Context(), "lockstep", "", func() error { return nil }); err != nil {
		t.Errorf("the next one fails: %v", err)
	}
}

// One attempt is made at a time, and who waits for one may give up.
func TestLoginsTakeTurns(t *testing.T) {
	l := cdc.NewLogins()
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Attempt(t.Context(), "lockstep", "", func() error {
		cancel()
		if err := l.Attempt(ctx, "lockstep", "", func() error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("a second one at the same time: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

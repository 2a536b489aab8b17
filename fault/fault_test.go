package fault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/fault"
)

func indexes(list []int, at int) int { return list[at] }

func TestPanicIsAnErrorThatSaysWhere(t *testing.T) {
	cases := []struct {
		name string
		work func() error
		says string
	}{
		{"of the runtime", func() error { indexes(nil, 3); return nil }, "fault_test.indexes:12: index out of range [3] with length 0"},
		{"of a nil pointer", func() error { var p *struct{ n int }; p.n++; return nil }, "nil pointer dereference"},
		{"of a literal", func() error { panic("broken") }, "broken"},
		{"of what may hold a row", func() error { panic(fmt.Errorf("value %d: %w", 42, errors.ErrUnsupported)) }, "a panic with a *fmt.wrapError"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := fmt.Errorf("table shop.t: %w", fault.Catch(c.work))
			e := fault.Of(err)
			if e == nil || !strings.Contains(err.Error(), c.says) || len(e.Stack) == 0 {
				t.Fatalf("it says %v", err)
			}
			if strings.Contains(err.Error(), "42") {
				t.Errorf("it tells values: %v", err)
			}
		})
	}
}

func TestErrorsAndSuccessPass(t *testing.T) {
	want := errors.New("refused")
	if err := fault.Catch(func() error { return want }); !errors.Is(err, want) || fault.Of(err) != nil {
		t.Errorf("an error became %v", err)
	}
	if err := fault.Catch(func() error { return nil }); err != nil {
		t.Errorf("nothing became %v", err)
	}
}

// One that was caught below and thrown on keeps the stack of where it was.
func TestPanicThrownOnIsTheSame(t *testing.T) {
	first := fault.Catch(func() error { panic("broken") })
	if second := fault.Catch(func() error { panic(first) }); fault.Of(second) != fault.Of(first) {
		t.Errorf("it became %v", second)
	}
}

// Who catches what was caught below already has nothing new to tell.
func TestCaughtIsNotWhatWasCaughtBelow(t *testing.T) {
	below := fault.Catch(func() error { panic("broken") })
	if fault.Caught(below) == nil {
		t.Error("what was caught is not known")
	}
	passed := fault.Catch(func() error { return fmt.Errorf("table shop.t: %w", below) })
	if fault.Caught(passed) != nil || fault.Of(passed) == nil {
		t.Errorf("it became %v", passed)
	}
}

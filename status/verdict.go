package status

// Verdict is the state of a table, a range of its keys, a member or a group.
type Verdict string

// The verdicts, in order of badness.
const (
	InStep     Verdict = "in_step"
	Lagging    Verdict = "lagging"
	Expected   Verdict = "expected" // rows differ, as expected_writes tells
	Unverified Verdict = "unverified"
	Stale      Verdict = "stale"
	Diverged   Verdict = "diverged"
)

// Verdicts lists them in that order.
var Verdicts = []Verdict{InStep, Lagging, Expected, Unverified, Stale, Diverged}

// bad returns the badness of a verdict. One that this package does not know says nothing.
func (v Verdict) bad() int {
	unknown := 0
	for i, known := range Verdicts {
		if v == known {
			return i
		}
		if known == Unverified {
			unknown = i
		}
	}
	return unknown
}

// Trusted reports whether reads may go to a member with this state.
func (v Verdict) Trusted() bool { return v.bad() <= Expected.bad() }

// Worse returns the worse of two verdicts.
func Worse(a, b Verdict) Verdict {
	if b.bad() > a.bad() {
		return b
	}
	return a
}

// Worst returns the worst state of a member's tables. Of a member without tables nothing can be said.
func Worst(tables []Table) Verdict {
	if len(tables) == 0 {
		return Unverified
	}
	state := InStep
	for _, t := range tables {
		state = Worse(state, t.Verdict)
	}
	return state
}

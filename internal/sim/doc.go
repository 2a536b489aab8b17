// Package sim runs the whole monitor of a group, goroutines and all, in a world that can be broken in every way: servers
// in memory ([cdctest]), virtual time (testing/synctest), a disk that crashes. A seeded history of actions is drawn from one
// table; an oracle that sees the true rows of every server looks at what lockstep says after every step.
package sim

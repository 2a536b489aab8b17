package mysql

import "sync"

// mostIdle is how many sessions a pool keeps for later.
const mostIdle = 2

// pool keeps sessions that nobody uses at the moment. The zero pool is empty.
type pool struct {
	mu     sync.Mutex // guards what follows
	idle   []*session
	closed bool
}

// take returns a session, or nil if there is none. It may have broken since it was last used.
func (p *pool) take() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return c
}

// give keeps a session that has nothing open, or ends it.
func (p *pool) give(c *session) {
	if !p.keep(c) {
		c.hangUp()
	}
}

func (p *pool) keep(c *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.broken || p.closed || len(p.idle) >= mostIdle {
		return false
	}
	p.idle = append(p.idle, c)
	return true
}

// close ends the sessions; those that are given from now on, too.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.hangUp()
	}
}

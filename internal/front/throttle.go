package front

import (
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Wrong passwords are slowed down by address, so that they cannot be guessed by
// trying, and so that nobody is locked out by what others do elsewhere.
const (
	freeAttempts   = 10               // wrong ones that cost nothing
	firstPause     = time.Second / 4  // after the next one; it doubles
	longestPause   = 10 * time.Second // but not beyond
	forgivenAfter  = 10 * time.Second // for each wrong one
	tellAgain      = time.Minute      // how often one address is logged
	maxAddresses   = 4096             // that are remembered
	maxCredentials = 1024             // right ones that are remembered
)

type throttle struct {
	key [32]byte // so that digests say nothing to whoever sees them

	mu        sync.Mutex
	known     map[[32]byte]credential // by digests of what was right
	offenders map[netip.Prefix]*offender
}

// credential is what was right when it was given: it counts only as long as the
// user has the same password.
type credential struct {
	user     string
	password [32]byte // its digest
}

// offender is an address that wrong credentials come from.
type offender struct {
	score  int       // wrong ones that are not forgiven
	scored time.Time // up to when forgiving has been counted
	next   time.Time // before it nothing is looked at
	untold int       // wrong ones since the last log line
	told   time.Time
}

func newThrottle() *throttle {
	t := &throttle{known: map[[32]byte]credential{}, offenders: map[netip.Prefix]*offender{}}
	_, _ = rand.Read(t.key[:]) // never fails (crypto/rand)
	return t
}

// forgive is for when other credentials are right from now on: what was wrong
// before may be right.
func (t *throttle) forgive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.offenders)
}

func (t *throttle) digest(given string) [32]byte {
	return sha256.Sum256(append(t.key[:len(t.key):len(t.key)], given...))
}

// isRight says whether the same credentials were right before, and still are.
func (t *throttle) isRight(given string, users map[string]string) bool {
	d := t.digest(given)
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.known[d]
	if !ok {
		return false
	}
	password, ok := users[c.user]
	if !ok || t.digest(password) != c.password {
		delete(t.known, d)
		return false
	}
	return true
}

// right remembers credentials.
func (t *throttle) right(given, user, password string) {
	d, c := t.digest(given), credential{user: user, password: t.digest(password)}
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.known {
		if len(t.known) < maxCredentials {
			break
		}
		delete(t.known, other)
	}
	t.known[d] = c
}

// begin says whether credentials from an address may be looked at now; if not,
// when.
func (t *throttle) begin(from netip.Prefix, now time.Time) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.offenders[from]
	if o == nil {
		return 0, true
	}
	o.forgive(now)
	if now.Before(o.next) {
		return o.next.Sub(now), false
	}
	o.next = now.Add(o.pause()) // for those who ask at the same time
	return 0, true
}

// wrong counts wrong credentials. It returns how long to wait with the answer,
// and how many there were since the last log line if it is time for one.
func (t *throttle) wrong(from netip.Prefix, now time.Time) (pause time.Duration, tell int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.offenders[from]
	if o == nil {
		if len(t.offenders) >= maxAddresses {
			t.makeRoom(now)
		}
		o = &offender{scored: now}
		t.offenders[from] = o
	}
	o.forgive(now)
	o.score = min(o.score+1, 2*freeAttempts)
	o.untold++
	pause = o.pause()
	o.next = now.Add(pause)
	if now.Sub(o.told) >= tellAgain {
		tell, o.told, o.untold = o.untold, now, 0
	}
	return pause, tell
}

// makeRoom drops what is forgiven, or else any address.
func (t *throttle) makeRoom(now time.Time) {
	for from, o := range t.offenders {
		if o.forgive(now); o.score == 0 {
			delete(t.offenders, from)
		}
	}
	for from := range t.offenders {
		if len(t.offenders) <= maxAddresses*3/4 { // not for every newcomer
			return
		}
		delete(t.offenders, from)
	}
}

func (o *offender) forgive(now time.Time) {
	n := int(now.Sub(o.scored) / forgivenAfter)
	o.score = max(0, o.score-n)
	o.scored = o.scored.Add(time.Duration(n) * forgivenAfter)
}

func (o *offender) pause() time.Duration {
	if o.score <= freeAttempts {
		return 0
	}
	return min(longestPause, firstPause<<(o.score-freeAttempts-1))
}

// clientOf is the address that a request comes from, as connections are counted.
func clientOf(r *http.Request) netip.Prefix {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{} // a unix socket
	}
	return addressOf(net.TCPAddrFromAddrPort(addr))
}

package state

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Admits says whether a join of a peer at some time, with the token of a hash,
// would be accepted now; the error is the one that it would be refused with. So
// nothing has to be logged to refuse those who have no right.
func (p *Pinset) Admits(hash [32]byte, id peer.ID, at time.Time) error {
	g, err := p.acquire()
	if err != nil {
		return err
	}
	defer p.release(g)
	g.mu.RLock()
	defer g.mu.RUnlock()
	tok, known := g.tokens[hash]
	_, member := g.members[id]
	if refused := judgeToken(tok, known, member, id, at.Unix()); refused != nil {
		return refused
	}
	return nil
}

// judgeToken says why a token does not admit a peer, if it does not.
func judgeToken(tok token, known, member bool, id peer.ID, at int64) *api.Error {
	switch {
	case !known:
		return api.Errorf(api.CodeForbidden, "the join token is not known here, or was used or has expired long ago; create another with 'cluster-service token create'")
	case at >= tok.expiresAt:
		return api.Errorf(api.CodeForbidden, "the join token has expired; create another with 'cluster-service token create'")
	case tok.reusable, tok.usedBy == "":
		return nil
	case tok.usedBy == id && member:
		return nil // its first answer was lost
	}
	return api.Errorf(api.CodeForbidden, "the join token was used already; create another with 'cluster-service token create'")
}

package cluster

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// seat is a member as the decision about votes sees it.
type seat struct {
	ID    peer.ID
	Voter bool
	Wish  api.Role // "": auto
	Self  bool     // it leads, and decides
	Up    bool     // it works and answers now
	Down  bool     // the leader has given it up for now
	For   time.Duration
	Lag   time.Duration // how long it has been without what the leader has
}

// votePolicy is how patient the decision is.
type votePolicy struct {
	Wanted int // voters at most
	// SettleTime is how long a learner must be up before it gets a vote. Below
	// three voters it gets one at once: the cluster is young, or in need.
	SettleTime time.Duration
	// LostTime is how long a voter must be down before its vote may go.
	LostTime time.Duration
	// MaxLag is how far a learner may be behind.
	MaxLag time.Duration
}

// lost says whether a member has been down for so long that it is given up.
func (p votePolicy) lost(s seat) bool { return s.Down && s.For >= p.LostTime }

// voteChange is one step.
type voteChange struct {
	ID    peer.ID
	Voter bool // what it shall be
	Why   string
}

// decideVote returns the next step towards the voters that there should be, or
// false when all is well or no step is safe. Every step leaves a majority of
// the voters up; the next is decided when this one is committed.
//
// The aim is the most voters up to policy.Wanted that are alive, and an odd
// number of them: the fourth adds a vote to every quorum and outlives no more
// failures than three do. Two are the exception, for then every write is on two
// disks. A dead voter goes when another can take its place, or when fewer
// voters outlive more: of five with two dead not one more may fail, three
// living ones can lose one. A voter that works is replaced by nobody, unless an
// operator wishes it.
func decideVote(seats []seat, policy votePolicy) (voteChange, bool) {
	var voters, up int
	for _, s := range seats {
		if s.Voter {
			voters++
			if s.Up {
				up++
			}
		}
	}
	aim := aimOf(seats, policy, voters)
	if !worthwhile(seats, aim, voters, up) {
		return voteChange{}, false
	}
	var promote, demote *seat
	for i := range seats {
		s := &seats[i]
		switch wanted := slices.Contains(aim, s.ID); {
		case wanted && !s.Voter:
			promote = better(promote, s)
		case !wanted && s.Voter && !s.Up && !policy.lost(*s) && s.Wish != api.RoleLearner:
			// It may come back at any moment.
		case !wanted && s.Voter && !s.Self && (demote == nil || demote.Up && !s.Up):
			demote = s
		}
	}
	// First what leaves more votes to lose. Of equals the dead one goes first,
	// so that the quorum does not grow on its account; but a voter that works
	// stays until its successor votes.
	add, drop := -1, -1
	if promote != nil {
		add = up + 1 - quorum(voters+1)
	}
	if demote != nil {
		drop = up - quorum(voters-1)
		if demote.Up {
			drop--
		}
	}
	switch {
	case drop >= 0 && (drop > add || drop == add && !demote.Up):
		return voteChange{ID: demote.ID, Why: whyDemoted(*demote)}, true
	case add >= 0:
		return voteChange{ID: promote.ID, Voter: true, Why: whyPromoted(*promote)}, true
	}
	return voteChange{}, false
}

// quorum is how many of n voters are a majority.
func quorum(n int) int { return n/2 + 1 }

// aimOf returns who should vote.
func aimOf(seats []seat, policy votePolicy, voters int) []peer.ID {
	var fit []seat
	for _, s := range seats {
		settled := s.For >= policy.SettleTime || voters < 3
		switch {
		case s.Wish == api.RoleLearner && !s.Self:
		case s.Voter && !policy.lost(s),
			!s.Voter && s.Up && settled && s.Lag <= policy.MaxLag:
			fit = append(fit, s)
		}
	}
	slices.SortFunc(fit, func(a, b seat) int {
		return cmp.Or(order(b.Self, a.Self), order(b.Wish == api.RoleVoter, a.Wish == api.RoleVoter),
			order(b.Voter, a.Voter), order(b.Up, a.Up), cmp.Compare(a.Lag, b.Lag), strings.Compare(string(a.ID), string(b.ID)))
	})
	var out []peer.ID
	for _, s := range fit[:VotersAmong(len(fit), policy.Wanted)] {
		out = append(out, s.ID)
	}
	return out
}

// VotersAmong is how many of so many living peers vote when at most wanted
// shall.
func VotersAmong(living, wanted int) int {
	count := min(living, wanted)
	if count%2 == 0 && count > 2 {
		count--
	}
	return count
}

// order sorts false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// worthwhile says whether the aim is better than what is. Changes that gain
// nothing are not made: each is a risk, and a dead voter that comes back soon is
// worth its seat.
func worthwhile(seats []seat, aim []peer.ID, voters, up int) bool {
	aimUp := 0
	for _, s := range seats {
		wanted := slices.Contains(aim, s.ID)
		if wanted && s.Up {
			aimUp++
		}
		if s.Voter && !wanted && s.Wish == api.RoleLearner || wanted && !s.Voter && s.Wish == api.RoleVoter {
			return true // an operator wishes it
		}
	}
	now, then := up-quorum(voters), aimUp-quorum(len(aim))
	switch {
	case then != now:
		return then > now
	case voters < 3:
		return len(aim) > voters
	}
	return voters%2 == 0 && voters > len(aim) && aimUp == len(aim)
}

func better(a, b *seat) *seat {
	if a == nil || order(b.Wish == api.RoleVoter, a.Wish == api.RoleVoter) > 0 ||
		(a.Wish == api.RoleVoter) == (b.Wish == api.RoleVoter) && b.Lag < a.Lag {
		return b
	}
	return a
}

func whyDemoted(s seat) string {
	switch {
	case s.Wish == api.RoleLearner:
		return "an operator wishes it to be a learner"
	case s.Down:
		return "it is down for " + s.For.Round(time.Second).String()
	}
	return "another voter takes its place, or there would be an even number"
}

func whyPromoted(s seat) string {
	if s.Wish == api.RoleVoter {
		return "an operator wishes it to vote"
	}
	return "it works and has caught up"
}

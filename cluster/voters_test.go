package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

var patient = votePolicy{Wanted: 5, SettleTime: 10 * time.Second, LostTime: 20 * time.Second, MaxLag: 5 * time.Second}

// seatsOf reads a picture: V voter, l learner; lower-case marks follow: d down
// for long, s suspect, n down or up since a moment only, b behind, + wishes to
// vote, - wishes not to. The first one leads.
func seatsOf(text string) []seat {
	var out []seat
	for i, word := range strings.Fields(text) {
		s := seat{ID: testPeer(i), Voter: word[0] == 'V', Self: i == 0, Up: true, For: time.Hour}
		for _, mark := range word[1:] {
			switch mark {
			case 'd':
				s.Up, s.Down = false, true
			case 's':
				s.Up = false
			case 'n':
				s.For = time.Second
			case 'b':
				s.Lag = time.Minute
			case '+':
				s.Wish = api.RoleVoter
			case '-':
				s.Wish = api.RoleLearner
			}
		}
		out = append(out, s)
	}
	return out
}

// settle decides until nothing is left to do.
func settle(t *testing.T, seats []seat, policy votePolicy) (steps []string, after []seat) {
	t.Helper()
	after = slices.Clone(seats)
	for range 4 * len(seats) {
		change, ok := decideVote(after, policy)
		if !ok {
			return steps, after
		}
		i := slices.IndexFunc(after, func(s seat) bool { return s.ID == change.ID })
		if after[i].Voter == change.Voter || change.Why == "" {
			t.Fatalf("no change: %+v of %+v", change, after[i])
		}
		after[i].Voter = change.Voter
		sign := map[bool]string{true: "+", false: "-"}[change.Voter]
		steps = append(steps, fmt.Sprint(sign, i))
	}
	t.Fatalf("it does not come to rest: %v from %+v", steps, seats)
	return nil, nil
}

func TestDecideVote(t *testing.T) {
	for _, test := range []struct{ name, seats, want string }{
		{"alone", "V", ""},
		{"two copies are better than one", "V ln", "+1"},
		{"a young cluster does not wait", "V ln ln", "+1 +2"},
		{"an even number gains nothing", "V V V l", ""},
		{"five", "V V V l l", "+3 +4"},
		{"no more than wanted", "V V V V V l l", ""},
		{"a learner has to settle", "V V V l ln", ""},
		{"a learner has to catch up", "V V V l lb", ""},
		{"a suspect learner waits", "V V V l ls", ""},
		{"a voter that is down for a moment", "V V Vdn l", ""},
		{"a suspect voter", "V V Vs l", ""},
		{"a dead voter of three, nobody in reserve", "V V Vd", ""},
		{"a dead voter is replaced", "V V Vd l", "-2 +3"},
		{"a dead voter of five, nobody in reserve", "V V V V Vd", ""},
		{"a dead voter of five is replaced", "V V V V Vd l l", "-4 +5"},
		{"two dead of five: three can lose one", "V V V Vd Vd", "-3 -4"},
		{"two dead of five, one in reserve", "V V V Vd Vd l", "-3 -4"},
		{"two dead of five, two in reserve", "V V V Vd Vd l l", "-3 -4 +5 +6"},
		{"the fourth vote goes", "V V V V", "-3"},
		{"the dead fourth vote goes", "V Vd V V", "-1"},
		{"no quorum, no change", "V Vd Vd l l", ""},
		{"a wish to vote takes a seat", "V V V l+", "+3 -1"},
		{"a wish that is down", "V V V ld+", ""},
		{"a wish not to vote", "V V- V l", "+3 -1"},
		{"a wish not to vote, nobody in reserve", "V V- V", "-1"},
		{"a wish not to vote would end the quorum", "V V- Vdn", ""},
		{"the leader stays", "V- V V l", ""},
	} {
		steps, _ := settle(t, seatsOf(test.seats), patient)
		if got := strings.Join(steps, " "); got != test.want {
			t.Errorf("%s: %s: did %q, want %q", test.name, test.seats, got, test.want)
		}
	}
}

// Whatever the members do: no step costs the quorum, none makes it easier to
// lose but by a wish, and what comes to rest is as good as it can be.
func TestDecideVoteAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		policy := patient
		policy.Wanted = 1 + dice.IntN(7)
		seats := make([]seat, 1+dice.IntN(9))
		for i := range seats {
			s := &seats[i]
			*s = seat{ID: testPeer(i), Self: i == 0, Voter: i == 0 || dice.IntN(2) == 0, Lag: time.Duration(dice.IntN(7)) * time.Second,
				For: time.Duration(dice.IntN(30)) * time.Second, Up: i == 0 || dice.IntN(3) > 0}
			s.Down = !s.Up && dice.IntN(3) > 0
			if dice.IntN(5) == 0 {
				s.Wish = []api.Role{api.RoleVoter, api.RoleLearner}[dice.IntN(2)]
			}
		}
		checkDecision(t, seats, policy)
		if t.Failed() {
			t.Fatalf("seats %+v, wanted %d", seats, policy.Wanted)
		}
	}
}

func checkDecision(t *testing.T, seats []seat, policy votePolicy) {
	t.Helper()
	now := slices.Clone(seats)
	for range 4 * len(seats) {
		change, ok := decideVote(now, policy)
		if !ok {
			checkRest(t, now, policy)
			return
		}
		i := slices.IndexFunc(now, func(s seat) bool { return s.ID == change.ID })
		switch s := now[i]; {
		case s.Voter == change.Voter:
			t.Errorf("no change: %+v", change)
		case change.Voter && (!s.Up || s.Wish == api.RoleLearner || s.Lag > policy.MaxLag):
			t.Errorf("unfit for a vote: %+v", s)
		case !change.Voter && s.Self:
			t.Error("the leader demoted itself")
		case !change.Voter && s.Down && s.For < policy.LostTime && s.Wish != api.RoleLearner:
			t.Errorf("lost its vote too soon: %+v", s)
		}
		now[i].Voter = change.Voter
		if up, voters := count(now); up < quorum(voters) {
			t.Errorf("%+v left %d of %d voters", change, up, voters)
		}
	}
	t.Error("it does not come to rest")
}

func count(seats []seat) (up, voters int) {
	for _, s := range seats {
		if s.Voter {
			voters++
			if s.Up {
				up++
			}
		}
	}
	return up, voters
}

// checkRest compares what the decision leaves with the best that any choice of
// living, fit members could do.
func checkRest(t *testing.T, seats []seat, policy votePolicy) {
	t.Helper()
	up, voters := count(seats)
	if up < quorum(voters) {
		return // nothing can be done
	}
	best := 0
	for _, s := range seats {
		if s.Voter && !s.Up && !(s.Down && s.For >= policy.LostTime) {
			return // it is given time to come back
		}
		settled := s.For >= policy.SettleTime || voters < 3
		if s.Up && (s.Self || s.Wish != api.RoleLearner) && (s.Voter || settled && s.Lag <= policy.MaxLag) {
			best++
		}
	}
	best = min(best, policy.Wanted)
	if outlives := best - quorum(best); up-quorum(voters) < outlives && voters <= policy.Wanted {
		t.Errorf("%d of %d voters are up; %d could be, and outlive %d", up, voters, best, outlives)
	}
}

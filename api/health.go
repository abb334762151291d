package api

import (
	"slices"
	"strings"
	"time"
)

// Readiness says whether a peer can take writes now. One that cannot may well
// be alive, and answer reads.
type Readiness struct {
	Ready bool `json:"ready"`
	// Stage is what the peer's start is at; "" once it has started.
	Stage   string   `json:"stage,omitempty"`
	Reasons []Reason `json:"reasons"` // why it is not ready; empty when it is
}

// Reason is one cause why a peer cannot take writes.
type Reason struct {
	Name    string    `json:"name"` // of the alert
	Subject string    `json:"subject,omitempty"`
	Message string    `json:"message"` // what is wrong, and what to do
	Since   time.Time `json:"since,omitzero"`
}

// NotReady makes the readiness of a peer that some conditions keep from taking
// writes; a peer without any is ready.
func NotReady(because ...Condition) Readiness {
	out := Readiness{Ready: len(because) == 0, Reasons: []Reason{}}
	for _, c := range because {
		out.Reasons = append(out.Reasons, Reason(c))
	}
	return out
}

// Err is the readiness as an error, nil when the peer is ready: unavailable,
// for another peer may be.
func (r Readiness) Err() error {
	if r.Ready {
		return nil
	}
	var why []string
	for _, reason := range r.Reasons {
		why = append(why, reason.Name+": "+reason.Message)
	}
	return Errorf(CodeUnavailable, "not ready: %s", strings.Join(why, "; "))
}

// StopsWrites says whether a peer with an alert of this name cannot take
// writes. With any other it works on.
func StopsWrites(alert string) bool {
	return slices.Contains([]string{AlertStarting, AlertNoLeader, AlertNotMember, AlertIPFS, AlertFolder}, alert)
}

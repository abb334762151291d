package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"holdfast/api"
)

// TokenPrefix tells a join token from other text, and its version.
const TokenPrefix = "holdfast1."

// JoinToken is what a new peer needs to be admitted, once.
type JoinToken struct {
	ClusterID  string       `json:"cluster"`
	Secret     string       `json:"secret"`     // hex of the swarm's pre-shared key
	Credential string       `json:"credential"` // single use; the cluster keeps its hash
	Expires    time.Time    `json:"expires"`
	Members    []memberJSON `json:"members"` // whom to ask
}

// newJoinToken makes a token and the hash that the cluster shall remember.
func newJoinToken(info ClusterInfo, members []api.Member, expires time.Time) (JoinToken, [32]byte) {
	var credential [32]byte
	_, _ = rand.Read(credential[:]) // never fails (crypto/rand)
	token := JoinToken{ClusterID: info.ID, Secret: hex.EncodeToString(info.Secret),
		Credential: hex.EncodeToString(credential[:]), Expires: expires.UTC().Truncate(time.Second)}
	for _, m := range members {
		token.Members = append(token.Members, newMemberJSON(m))
	}
	return token, sha256.Sum256([]byte(token.Credential))
}

// String is the text that is given to `cluster-service join`.
func (t JoinToken) String() string {
	data, err := json.Marshal(t)
	if err != nil {
		return "" // cannot happen: only strings and a time
	}
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(data)
}

// ParseJoinToken reads a token; the error says what is wrong with it.
func ParseJoinToken(text string) (JoinToken, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(text), TokenPrefix)
	if !ok {
		return JoinToken{}, api.Errorf(api.CodeInvalid, "this is not a join token (they begin with %q); make one with 'cluster-service token create' on a peer of the cluster", TokenPrefix)
	}
	var token JoinToken
	data, err := base64.RawURLEncoding.DecodeString(body)
	if err == nil {
		err = json.Unmarshal(data, &token)
	}
	if err != nil {
		return JoinToken{}, api.Errorf(api.CodeInvalid, "the join token is damaged; was it copied whole? (%w)", err)
	}
	if time.Now().After(token.Expires) {
		return JoinToken{}, api.Errorf(api.CodeInvalid, "the join token expired at %s; make a new one with 'cluster-service token create'", token.Expires.Format(time.RFC3339))
	}
	return token, nil
}

// CreateToken makes a join token that is valid for a time.
func (d *Daemon) CreateToken(ctx context.Context, ttl time.Duration) (TokenAnswer, error) {
	select {
	case <-d.ready:
	default:
		return TokenAnswer{}, api.Errorf(api.CodeUnavailable, "not ready: this peer is starting")
	}
	if ttl <= 0 || ttl > maxTokenTTL {
		return TokenAnswer{}, api.Errorf(api.CodeInvalid, "a join token lives between a moment and %s, not %s", maxTokenTTL, ttl)
	}
	if err := d.waitFounded(ctx); err != nil {
		return TokenAnswer{}, err
	}
	members, err := d.state.Members()
	if err != nil {
		return TokenAnswer{}, err
	}
	info := d.opts.Cluster
	info.ID = d.state.ClusterID()
	token, hash := newJoinToken(info, members, time.Now().Add(ttl))
	if err := d.cluster.CreateToken(ctx, api.TokenRequest{Hash: hash, ExpiresAt: token.Expires}); err != nil {
		return TokenAnswer{}, err
	}
	return TokenAnswer{Token: token.String(), Expires: token.Expires}, nil
}

// waitFounded waits until the pinset knows its cluster and members: a moment
// after the first start of a new cluster's first peer.
func (d *Daemon) waitFounded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, foundTimeout)
	defer cancel()
	for {
		changed := d.state.Changed()
		if d.state.ClusterID() != "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return api.Errorf(api.CodeNoLeader, "the cluster has not been founded yet: it has had no leader so far")
		}
	}
}

const foundTimeout = 10 * time.Second

const maxTokenTTL = 30 * 24 * time.Hour

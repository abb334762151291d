package daemon

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"holdfast/api"
)

// DeploymentSecret is what the peers of one deployment are given alike. Keys
// for single purposes are derived from it, and it goes over no wire itself.
type DeploymentSecret [32]byte

// NewDeploymentSecret makes one by chance.
func NewDeploymentSecret() DeploymentSecret {
	var s DeploymentSecret
	_, _ = rand.Read(s[:]) // never fails (crypto/rand)
	return s
}

// ParseDeploymentSecret reads its text: 64 hexadecimal digits.
func ParseDeploymentSecret(text string) (DeploymentSecret, error) {
	var s DeploymentSecret
	raw, err := hex.DecodeString(strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")))
	if err != nil || len(raw) != len(s) {
		return s, api.Errorf(api.CodeInvalid, "the deployment secret must be 64 hexadecimal digits; 'cluster-service secret create' makes one")
	}
	copy(s[:], raw)
	return s, nil
}

// String is the text that ParseDeploymentSecret reads.
func (s DeploymentSecret) String() string { return hex.EncodeToString(s[:]) }

// swarmKey is the pre-shared key of the cluster swarm.
func (s DeploymentSecret) swarmKey() []byte { return s.derive("holdfast cluster swarm, version 1") }

// credential is what a new peer shows to be admitted.
func (s DeploymentSecret) credential() string {
	return hex.EncodeToString(s.derive("holdfast join credential, version 1"))
}

func (s DeploymentSecret) derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, s[:], nil, purpose, 32)
	if err != nil {
		panic("derive a key: " + err.Error()) // cannot happen: the length is fixed
	}
	return key
}

package api

import (
	"encoding/json"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// RPCProtocol names what members speak to one another.
const RPCProtocol = "/holdfast/rpc/1"

// JoinProtocol names what those who are no members may ask one.
const JoinProtocol = "/holdfast/join/1"

// IPFSID is the identity of a peer's IPFS node.
type IPFSID struct {
	ID        peer.ID               `json:"id,omitempty"`
	Addresses []multiaddr.Multiaddr `json:"addresses"`
	Error     string                `json:"error"`
}

// ID tells who a peer is and whom it sees.
type ID struct {
	ID                    peer.ID               `json:"id,omitempty"`
	Addresses             []multiaddr.Multiaddr `json:"addresses"` // each ends in /p2p/<id>
	ClusterPeers          []peer.ID             `json:"cluster_peers"`
	ClusterPeersAddresses []multiaddr.Multiaddr `json:"cluster_peers_addresses"`
	Version               string                `json:"version"`
	Commit                string                `json:"commit"`
	RPCProtocolVersion    string                `json:"rpc_protocol_version"`
	Error                 string                `json:"error"` // why the peer could not be asked
	IPFS                  IPFSID                `json:"ipfs"`
	PeerName              string                `json:"peername"`
	// What the incumbent does not tell.
	Role  string    `json:"role,omitempty"`  // leader, voter or learner
	State PeerState `json:"state,omitempty"` // as the leader sees it
	Lag   *Lag      `json:"lag,omitempty"`   // nil: not known
	// Term is that of the agreement, as the peer knows it: every election ends
	// one. LeaderChanges is how often the peer came to know a leader since it
	// started; one that loses sight of its leader and finds it again counts, too.
	Term          uint64 `json:"raft_term,omitempty"`
	LeaderChanges uint64 `json:"leader_changes,omitempty"`
	// Wish is what an operator wants its role to be; "": auto.
	Wish Role `json:"role_wish,omitempty"`
	// Reachable are those of ClusterPeers that the peer is in touch with now,
	// itself left out. nil: not told.
	Reachable []peer.ID `json:"reachable_peers,omitzero"`
	// FreeBytes is what new replicas may take; nil: not known.
	FreeBytes *uint64 `json:"free_bytes,omitempty"`
	// HeardSeconds is how long ago the leader heard of a peer whose state is
	// unknown, as far as the peer that is asked knows. nil: its state is known.
	HeardSeconds *float64 `json:"heard_seconds_ago,omitempty"`
	// Alerts are the names of what is wrong with it, in their order.
	Alerts []string `json:"alerts,omitempty"`
}

// Lag is how far a peer is behind the leader, as its last report told.
type Lag struct {
	Entries uint64 `json:"entries"` // of the log, that its pinset does not contain yet
	// SilentSeconds is how long ago the leader heard from it.
	SilentSeconds float64 `json:"silent_seconds"`
}

// UnmarshalJSON reads an ID; addresses are multiaddrs in text.
func (i *ID) UnmarshalJSON(data []byte) error {
	type plain ID
	aux := struct {
		*plain
		Addresses             []string `json:"addresses"`
		ClusterPeersAddresses []string `json:"cluster_peers_addresses"`
	}{plain: (*plain)(i)}
	if err := json.Unmarshal(data, &aux); err != nil {
		return err
	}
	var err error
	if i.Addresses, err = parseAddrs(aux.Addresses); err != nil {
		return err
	}
	i.ClusterPeersAddresses, err = parseAddrs(aux.ClusterPeersAddresses)
	return err
}

// UnmarshalJSON reads an IPFSID; addresses are multiaddrs in text.
func (i *IPFSID) UnmarshalJSON(data []byte) error {
	type plain IPFSID
	aux := struct {
		*plain
		Addresses []string `json:"addresses"`
	}{plain: (*plain)(i)}
	if err := json.Unmarshal(data, &aux); err != nil {
		return err
	}
	addrs, err := parseAddrs(aux.Addresses)
	i.Addresses = addrs
	return err
}

// Version is the answer of GET /version.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
}

// PeerState is what the leader thinks of a peer, as far as is known.
type PeerState string

// The states. Only an up peer is given new replicas.
const (
	PeerUp      PeerState = "up"
	PeerSuspect PeerState = "suspect" // some reports are missing, or its IPFS node is broken
	PeerDown    PeerState = "down"    // silent for longer than the limit
	PeerUnknown PeerState = "unknown" // no leader has told of it for some seconds; never sent to others
)

// PeerReport is what a peer tells the leader about itself every two seconds.
type PeerReport struct {
	Peer          peer.ID `json:",omitempty"`
	Name          string
	Addresses     []multiaddr.Multiaddr // of the cluster host, each ends in /p2p/<id>
	Version       string
	Commit        string
	IPFS          peer.ID `json:",omitempty"`
	IPFSAddresses []multiaddr.Multiaddr
	FreeBytes     uint64 // what new replicas may take: disk and StorageMax considered, reserve subtracted
	RepoBytes     uint64 // what the IPFS repository takes now
	PinQueue      uint64 // pins waiting or under way
	Tags          map[string]string
	NodeError     string    // why the IPFS node cannot work; "": it works
	Applied       uint64    // the last log index in its pinset
	Wall          time.Time // what its clock says; zero: an earlier version does not tell
	// Backup is how the peer's backups by the clock go; nil: it makes none.
	Backup *BackupReport
	// Conditions are what else is wrong with it.
	Conditions []Condition `json:",omitempty"`
}

// BackupReport tells how a peer's backups of the pinset go.
type BackupReport struct {
	LastGood time.Time // when the newest whole one was written, or found to be still of now; zero: never
	Error    string    // why the last try failed; "": it did not
	Since    time.Time // of the first of the tries that failed, one after the other
}

// PeerView is a peer as the leader sees it.
type PeerView struct {
	Report PeerReport
	State  PeerState
	Since  time.Time     // when State began
	Silent time.Duration // since its last report, when the leader said so
	// Skew is by how much its clock is ahead of the leader's; told if the report has Wall.
	Skew time.Duration
}

// Digest is the leader's view of all peers, sent back with every report.
type Digest struct {
	Leader peer.ID `json:",omitempty"`
	Peers  []PeerView
}

// Member is a peer that was admitted to the cluster. It is part of the
// replicated state: nobody else may speak to the members.
type Member struct {
	ID        peer.ID
	Name      string
	Addresses []multiaddr.Multiaddr // where it said it can be dialled when it joined or last moved
	JoinedAt  time.Time
	// Role is the part in the votes that an operator wishes; "": auto.
	Role Role `json:",omitempty"`
	// CommandVersion is the highest version of commands that the member's
	// program knows; 0: 1.
	CommandVersion uint32 `json:",omitempty"`
}

// What is kept of a member. Every peer has it in its memory, and in each
// message that lists the members.
const (
	MaxMemberAddresses = 64
	MaxMemberNameBytes = 1024
	MaxMultiaddrBytes  = 1024
	maxPeerIDBytes     = 128
	maxProgramBytes    = 256 // of a version's name
	maxCredentialBytes = 256
	maxClusterIDBytes  = 256
	maxTokenYear       = 9999
)

// Validate refuses what cannot be the record of a member.
func (m Member) Validate() error {
	switch {
	case m.ID == "":
		return Errorf(CodeInvalid, "the new peer did not say who it is")
	case len(m.ID) > maxPeerIDBytes:
		return Errorf(CodeInvalid, "a peer ID has %d bytes; at most %d are kept", len(m.ID), maxPeerIDBytes)
	case len(m.Name) > MaxMemberNameBytes:
		return Errorf(CodeInvalid, "the peer's name has %d bytes; at most %d are kept", len(m.Name), MaxMemberNameBytes)
	case len(m.Addresses) > MaxMemberAddresses:
		return Errorf(CodeInvalid, "the peer has %d addresses; at most %d are kept; name those to dial it at with cluster.announce", len(m.Addresses), MaxMemberAddresses)
	}
	for _, addr := range m.Addresses {
		if size := len(addr.Bytes()); size == 0 || size > MaxMultiaddrBytes {
			return Errorf(CodeInvalid, "an address of the peer has %d bytes; those of 1 to %d are kept", size, MaxMultiaddrBytes)
		}
	}
	return nil
}

// Role is a wish for a member's part in the votes.
type Role string

// The wishes. Without one the leader decides.
const (
	RoleAuto    Role = "auto"
	RoleVoter   Role = "voter"   // it is preferred, while it is fit to vote
	RoleLearner Role = "learner" // it is never given a vote
)

// RemoveRequest asks the leader to remove a member.
type RemoveRequest struct {
	Peer peer.ID
	// Force removes it even if no majority of the voters is then alive.
	Force bool `json:",omitempty"`
}

// RoleRequest asks the leader to store a wish and to carry it out.
type RoleRequest struct {
	Peer peer.ID
	Role Role
}

// RaftMember is a peer's part in the agreement.
type RaftMember struct {
	ID    peer.ID
	Voter bool // false: a learner, which replicates but does not vote
}

// JoinRequest is what a new peer sends to be admitted.
type JoinRequest struct {
	Credential string // of the join token
	ClusterID  string // that the token is for; "": not known to the new peer
	Member     Member
	Version    string
	Protocol   string // RPCProtocol of the new peer
	Time       time.Time
}

// Validate refuses a request that is larger than any honest one.
func (r JoinRequest) Validate() error {
	if len(r.Credential) > maxCredentialBytes || len(r.ClusterID) > maxClusterIDBytes || len(r.Version) > maxProgramBytes || len(r.Protocol) > maxProgramBytes {
		return Errorf(CodeInvalid, "the request to join is larger than it can be")
	}
	return r.Member.Validate()
}

// JoinReply admits a peer.
type JoinReply struct {
	ClusterID string
	Members   []Member
}

// Standing is what a member tells a peer about that peer's part in the cluster.
type Standing struct {
	Member bool
	// Recovered is when 'cluster-service recover' made the member that answers
	// the only one; zero: never.
	Recovered time.Time
}

// RepoStat is the size of an IPFS repository in bytes.
type RepoStat struct {
	RepoSize   uint64 `json:"RepoSize"`
	StorageMax uint64 `json:"StorageMax"`
	NumObjects uint64 `json:"NumObjects"`
}

// RepoGCKey is one block that was collected, or an error.
type RepoGCKey struct {
	Key   Cid    `json:"key"`
	Error string `json:"error,omitempty"`
}

// RepoGC is what garbage collection did on one peer.
type RepoGC struct {
	Peer     peer.ID     `json:"peer,omitempty"`
	PeerName string      `json:"peername"`
	Keys     []RepoGCKey `json:"keys"`
	Error    string      `json:"error,omitempty"`
}

// GlobalRepoGC is what garbage collection did, by cluster peer ID in text.
type GlobalRepoGC struct {
	PeerMap map[string]RepoGC `json:"peer_map"`
}

// TokenRequest asks the leader to remember a join token; only its hash is kept.
type TokenRequest struct {
	Hash      [32]byte
	ExpiresAt time.Time
	// Reusable tokens admit any number of peers: the peers of one deployment
	// share one. Others work once.
	Reusable bool `json:",omitempty"`
}

// Validate refuses a token that nobody could use.
func (r TokenRequest) Validate() error {
	if r.Hash == [32]byte{} || r.ExpiresAt.Year() > maxTokenYear || r.ExpiresAt.Unix() <= 0 {
		return Errorf(CodeInvalid, "this is no join token: it needs the hash of a credential and a time at which it expires")
	}
	return nil
}

// DeclineRequest tells the leader that a peer cannot hold a replica (its disk
// is full), so that another is chosen.
type DeclineRequest struct {
	Cid    Cid
	Peer   peer.ID
	Reason string
}

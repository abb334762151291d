package api

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Alert is something that an operator should look at now. The first fields are
// those of the incumbent's alerts, which are metrics that have expired; here an
// alert is gone when its cause is.
type Alert struct {
	Name          string    `json:"name"` // AlertPing and the others
	Peer          peer.ID   `json:"peer"`
	Value         string    `json:"value"`         // always empty
	Expire        int64     `json:"expire"`        // when it began, in Unix nanoseconds
	Valid         bool      `json:"valid"`         // always false
	Weight        int64     `json:"weight"`        // always 0
	Partitionable bool      `json:"partitionable"` // always false
	ReceivedAt    int64     `json:"received_at"`   // when the peer last reported, in Unix nanoseconds; 0: never
	TriggeredAt   time.Time `json:"triggered_at"`  // when it began
	// What the incumbent does not tell.
	PeerName string     `json:"peername,omitempty"`
	Message  string     `json:"message"`             // what is wrong, and what to do
	LastGood *time.Time `json:"last_good,omitempty"` // of backups; nil: there was none
	Subject  string     `json:"subject,omitempty"`   // what it is about, where a peer can have several of one name: a CID, a file
}

// Condition is something that is wrong with a peer now, and that the peer knows
// by itself. Its reports carry what is wrong at that moment; when its cause is
// gone, it is no longer among them.
type Condition struct {
	Name    string // of the alert
	Subject string `json:",omitempty"` // tells conditions of one name apart; "": there is one at most
	Message string // what is wrong, and what to do
	// Since is when it began. The peer's use cases set it where it is zero: a
	// part that tells of a condition need not remember that.
	Since time.Time
}

// The names of alerts. docs/deployment.md says of each what to do.
const (
	AlertPing        = "ping"          // the peer is down
	AlertIPFS        = "ipfs"          // its IPFS node cannot work
	AlertBackup      = "backup"        // its backups of the pinset fail
	AlertStarting    = "starting"      // it has not started yet
	AlertNoLeader    = "no_leader"     // it knows no leader, or hears nothing of the one that it knows
	AlertNotMember   = "not_member"    // it was removed from its cluster
	AlertFolder      = "folder"        // its folder cannot be written, or the disk below is full
	AlertDiskFull    = "disk_full"     // its IPFS node has no space left
	AlertDiskLow     = "disk_low"      // soon it will have none
	AlertClock       = "clock"         // its clock differs from those of the others
	AlertExpiryWaits = "expiry_waits"  // it leads, and does not know what time it is
	AlertIsolated    = "node_isolated" // its IPFS node reaches that of no other peer
	AlertDamage      = "damage"        // blocks on its disk are damaged
	AlertRead        = "read"          // its disk cannot be read
	AlertGC          = "gc"            // its garbage is not collected
	AlertPinset      = "pinset"        // its pinset was damaged, and was made anew
	AlertSnapshot    = "snapshot"      // a snapshot of its log is damaged

	AlertConnections  = "connections" // an API has no room for further clients
	AlertCertificate  = "certificate" // the TLS certificate ends soon, or its new files cannot be used
	AlertSettings     = "settings"    // the settings could not be reloaded
	AlertPinsLost     = "lost"        // it has lost some of what it had pinned
	AlertPinsUnusable = "unusable"    // it is asked to pin what cannot be pinned
)

package config

import (
	"time"
)

// Config is the settings of a peer. New has the defaults; service.json holds
// only what differs from them.
type Config struct {
	PeerName string

	ClusterListen   []string // multiaddrs of the cluster swarm
	PeerAddresses   []string // of other peers' cluster swarms, tried while members are missing
	ClusterAnnounce []string // what others shall dial instead, such as /dns4/peer0/tcp/9096
	Voters          int

	RESTListen   []string // multiaddrs; none: off
	ProxyListen  []string
	PinsvcListen []string

	Users        users  // user to password, for REST, proxy and Pinning Service API
	TLSCert      string // PEM files; both or none
	TLSKey       string
	Insecure     bool     // allow listeners off the loopback without credentials
	AllowedHosts []string // further Host headers to accept
	UploadPause  time.Duration

	IPFSPublic        bool // take part in the public network
	IPFSSwarm         []string
	IPFSAnnounce      []string
	IPFSAdmit         []string // peer IDs
	IPFSStorageMax    Bytes
	IPFSGatewayListen []string
	GatewayPublic     bool // allow a gateway off the loopback without credentials

	ReplicationMin int
	ReplicationMax int
	BelowMinGrace  time.Duration
	BelowMaxGrace  time.Duration
	RepairRate     int // pins in a second
	ConcurrentPins int

	HeartbeatTimeout time.Duration
	ElectionTimeout  time.Duration

	LeaveOnShutdown bool // leave the cluster for good when the peer is told to stop

	BackupFolder   string // "": no backups. A relative one lies in the peer's folder
	BackupInterval time.Duration
	BackupKeep     int

	Tags      map[string]string
	LogLevel  string
	LogFormat string
}

// Bytes is a number of bytes, written as 10GB or 10GiB; 0 is no limit.
type Bytes uint64

// New returns the defaults: nothing but the IPFS swarm listens off the
// loopback.
func New() Config {
	return Config{
		ClusterListen:  []string{"/ip4/127.0.0.1/tcp/9096"},
		Voters:         5,
		RESTListen:     []string{"/ip4/127.0.0.1/tcp/9094"},
		ProxyListen:    []string{"/ip4/127.0.0.1/tcp/9095"},
		PinsvcListen:   []string{"/ip4/127.0.0.1/tcp/9097"},
		UploadPause:    5 * time.Minute,
		IPFSPublic:     true,
		IPFSSwarm:      []string{"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"},
		ReplicationMin: 1,
		ReplicationMax: 2,
		BelowMinGrace:  2 * time.Second,
		BelowMaxGrace:  10 * time.Minute,
		RepairRate:     1000,
		BackupInterval: 24 * time.Hour,
		BackupKeep:     7,
		LogLevel:       "info",
		LogFormat:      "text",
	}
}

// setting is one line of the table of all settings.
type setting struct {
	key  string // as in service.json; the dot makes an object
	help string
	at   func(*Config) any // pointer to the field
}

// settings is the one table that file, environment, show and docs go by. The
// variable of restapi.listen is CLUSTER_RESTAPI_LISTEN.
var settings = []setting{
	{"peername", "name of this peer, for people; default: the host's name", func(c *Config) any { return &c.PeerName }},
	{"cluster.listen", "multiaddrs of the cluster swarm; other machines need one that they can reach", func(c *Config) any { return &c.ClusterListen }},
	{"cluster.announce", "multiaddrs that other peers shall dial, such as /dns4/peer0/tcp/9096; default: the listen addresses", func(c *Config) any { return &c.ClusterAnnounce }},
	{"cluster.voters", "how many peers vote; further ones replicate only", func(c *Config) any { return &c.Voters }},
	{"cluster.peer_addresses", "multiaddrs of other peers' cluster swarms, tried while members are not reached at the addresses that the cluster knows", func(c *Config) any { return &c.PeerAddresses }},
	{"restapi.listen", "multiaddrs of the REST API; an empty list turns it off", func(c *Config) any { return &c.RESTListen }},
	{"ipfsproxy.listen", "multiaddrs of the IPFS API proxy; an empty list turns it off", func(c *Config) any { return &c.ProxyListen }},
	{"pinsvc.listen", "multiaddrs of the Pinning Service API; an empty list turns it off", func(c *Config) any { return &c.PinsvcListen }},
	{"http.users", "who may use the HTTP APIs: user to password (a password also works as a bearer token). A file has one user:password a line, or a JSON object", func(c *Config) any { return &c.Users }},
	{"http.tls_cert", "PEM file with the certificate chain of the HTTP APIs", func(c *Config) any { return &c.TLSCert }},
	{"http.tls_key", "PEM file with the key of the HTTP APIs", func(c *Config) any { return &c.TLSKey }},
	{"http.insecure", "allow HTTP listeners off the loopback without credentials", func(c *Config) any { return &c.Insecure }},
	{"http.allowed_hosts", "further names that clients may call this peer by, such as peer0:9094", func(c *Config) any { return &c.AllowedHosts }},
	{"http.upload_pause", "how long a client may send nothing in the middle of an upload before it is given up; longer for sources that pause", func(c *Config) any { return &c.UploadPause }},
	{"ipfs.public", "take part in the public IPFS network; false: the IPFS nodes of the cluster connect with one another only, whoever dials", func(c *Config) any { return &c.IPFSPublic }},
	{"ipfs.admit", "peer IDs of IPFS nodes outside the cluster that may connect although ipfs.public is false; they can read whatever this peer holds", func(c *Config) any { return &c.IPFSAdmit }},
	{"ipfs.swarm", "multiaddrs of the IPFS swarm", func(c *Config) any { return &c.IPFSSwarm }},
	{"ipfs.announce", "multiaddrs that other IPFS nodes shall dial", func(c *Config) any { return &c.IPFSAnnounce }},
	{"ipfs.storage_max", "space for blocks, such as 500GB, of which garbage is collected from 90 % on; 0: what the disk has, less a reserve", func(c *Config) any { return &c.IPFSStorageMax }},
	{"ipfs.gateway_listen", "multiaddrs of a read-only gateway; default: off", func(c *Config) any { return &c.IPFSGatewayListen }},
	{"ipfs.gateway_public", "allow a gateway off the loopback without credentials: whoever reaches it reads what this peer holds", func(c *Config) any { return &c.GatewayPublic }},
	{"replication.min", "replicas that a pin must have, unless it says otherwise; -1 with max -1: every peer", func(c *Config) any { return &c.ReplicationMin }},
	{"replication.max", "replicas that a pin should have, unless it says otherwise", func(c *Config) any { return &c.ReplicationMax }},
	{"repair.below_min_grace", "how long a peer must be down before pins below their minimum are placed elsewhere", func(c *Config) any { return &c.BelowMinGrace }},
	{"repair.below_max_grace", "the same for pins that still have their minimum; longer than a restart", func(c *Config) any { return &c.BelowMaxGrace }},
	{"repair.pins_per_second", "how many pins repair places anew in a second, at most", func(c *Config) any { return &c.RepairRate }},
	{"pins.concurrent", "how many pins are fetched at once; 0: a good number for this machine", func(c *Config) any { return &c.ConcurrentPins }},
	{"raft.heartbeat_timeout", "silence of the leader after which a follower stands for election; 0: the default", func(c *Config) any { return &c.HeartbeatTimeout }},
	{"raft.election_timeout", "how long a candidate waits for votes; 0: the default", func(c *Config) any { return &c.ElectionTimeout }},
	{"cluster.leave_on_shutdown", "leave the cluster for good at a clean stop, if the others can do without this peer", func(c *Config) any { return &c.LeaveOnShutdown }},
	{"backup.folder", "where this peer keeps copies of the pinset, best on another disk; a relative path lies in the peer's folder; empty: no backups", func(c *Config) any { return &c.BackupFolder }},
	{"backup.interval", "time between two backups; none is made when nothing has changed", func(c *Config) any { return &c.BackupInterval }},
	{"backup.keep", "how many backups stay", func(c *Config) any { return &c.BackupKeep }},
	{"tags", "labels of this peer, such as zone: eu-1", func(c *Config) any { return &c.Tags }},
	{"log.level", "debug, info, warn or error", func(c *Config) any { return &c.LogLevel }},
	{"log.format", "text or json", func(c *Config) any { return &c.LogFormat }},
}

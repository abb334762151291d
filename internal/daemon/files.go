package daemon

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Names of what is in a peer's folder.
const (
	ConfigFile   = "service.json"
	identityFile = "identity.json"
	clusterFile  = "cluster.json"
	nodesFile    = "nodes.json"
	formatFile   = "format"
	lockFile     = "lock"
	socketFile   = "admin.sock"
)

// formatVersion is the version of the folder's layout. A program refuses a
// folder of a later version rather than guess.
const formatVersion = 1

// Identity is the key of a peer in its cluster.
type Identity struct {
	ID  peer.ID
	Key crypto.PrivKey
}

type identityJSON struct {
	ID         string `json:"id"`
	PrivateKey string `json:"private_key"` // base64 of the protobuf form, as the incumbent's
}

// NewIdentity makes a new Ed25519 key.
func NewIdentity() (Identity, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("generate the peer's key: %w", err)
	}
	id, err := peer.IDFromPrivateKey(key)
	return Identity{ID: id, Key: key}, err
}

// LoadIdentity reads a peer's key; os.ErrNotExist if there is none yet.
func LoadIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, identityFile)
	var stored identityJSON
	if err := readJSON(path, &stored); err != nil {
		return Identity{}, damaged(path, err)
	}
	raw, err := base64.StdEncoding.DecodeString(stored.PrivateKey)
	if err != nil {
		return Identity{}, damaged(path, fmt.Errorf("private_key is not base64: %w", err))
	}
	key, err := crypto.UnmarshalPrivateKey(raw)
	if err != nil {
		return Identity{}, damaged(path, fmt.Errorf("private_key: %w", err))
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return Identity{}, damaged(path, err)
	}
	if stored.ID != id.String() {
		return Identity{}, damaged(path, fmt.Errorf("the id %q is not that of the private_key (%s)", stored.ID, id))
	}
	if err := signs(key); err != nil {
		return Identity{}, damaged(path, err)
	}
	return Identity{ID: id, Key: key}, nil
}

// signs checks that both halves of a key belong together: the ID is made from the
// public one alone.
func signs(key crypto.PrivKey) error {
	text := []byte("peer")
	signature, err := key.Sign(text)
	if err != nil {
		return fmt.Errorf("private_key: %w", err)
	}
	if ok, err := key.GetPublic().Verify(text, signature); err != nil || !ok {
		return errors.Join(errors.New("private_key: its two halves do not belong together"), err)
	}
	return nil
}

// damaged says what to do about a file without which a peer is not itself.
func damaged(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return err
	}
	return api.Errorf(api.CodeInternal, "%s cannot be used: %w; %s", path, err, restoreOrJoin(filepath.Dir(path)))
}

func restoreOrJoin(dir string) string {
	return fmt.Sprintf("restore the file from a backup of the folder; without one, remove this peer with 'cluster-ctl peers rm' on another one, move %s away and join again with 'cluster-service join TOKEN' (docs/backup.md)", dir)
}

// Save writes the key, readable by its owner only.
func (i Identity) Save(dir string) error {
	raw, err := crypto.MarshalPrivateKey(i.Key)
	if err != nil {
		return fmt.Errorf("encode the peer's key: %w", err)
	}
	return writeJSON(filepath.Join(dir, identityFile),
		identityJSON{ID: i.ID.String(), PrivateKey: base64.StdEncoding.EncodeToString(raw)})
}

// ClusterInfo says which cluster a peer belongs to.
type ClusterInfo struct {
	ID     string // of the cluster
	Secret []byte // 32 bytes: the pre-shared key of the cluster swarm
	// Founder says that this peer began the cluster and may bootstrap it.
	Founder bool
	// Founded says that the founder has done so. It never does so again: a
	// second cluster of the same name and secret would take in the first
	// one's peers.
	Founded bool
	// Removed says that the cluster has removed this peer, for good.
	Removed bool
	// Recovered is when this peer was made the only member (Recovery.Recover);
	// zero: never. It is what former members are told.
	Recovered time.Time
	// Settings says that there was a service.json when this peer became a member:
	// without it a private peer would be a public one.
	Settings bool
	// Seeds are the members at the time of joining: whom to trust and dial
	// until the pinset, which holds the members, has arrived.
	Seeds []api.Member
}

type clusterJSON struct {
	ID        string       `json:"cluster_id"`
	Secret    string       `json:"secret"`
	Founder   bool         `json:"founder,omitempty"`
	Founded   bool         `json:"founded,omitempty"`
	Removed   bool         `json:"removed,omitempty"`
	Recovered time.Time    `json:"recovered,omitzero"`
	Settings  bool         `json:"settings,omitempty"`
	Seeds     []memberJSON `json:"seeds,omitempty"`
	// Sum is of all the rest: another secret or cluster than was written is as good
	// as none. Folders of the first versions have no sum.
	Sum string `json:"sum,omitempty"`
}

func (c clusterJSON) sum() (string, error) {
	c.Sum = ""
	data, err := json.Marshal(c)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}

func (c clusterJSON) checkSum() error {
	want, err := c.sum()
	if err == nil && c.Sum != "" && c.Sum != want {
		err = errors.New("it is not as it was written: its sum is another one")
	}
	return err
}

type memberJSON struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
}

// NewClusterInfo begins a cluster.
func NewClusterInfo() ClusterInfo {
	var id [16]byte
	secret := make([]byte, 32)
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	_, _ = rand.Read(secret)
	return ClusterInfo{ID: hex.EncodeToString(id[:]), Secret: secret, Founder: true}
}

// LoadClusterInfo reads a peer's cluster; os.ErrNotExist if it has none yet.
func LoadClusterInfo(dir string) (ClusterInfo, error) {
	path := filepath.Join(dir, clusterFile)
	var stored clusterJSON
	if err := readJSON(path, &stored); err != nil {
		return ClusterInfo{}, damaged(path, err)
	}
	if err := stored.checkSum(); err != nil {
		return ClusterInfo{}, damaged(path, err)
	}
	secret, err := hex.DecodeString(stored.Secret)
	if err != nil || len(secret) != 32 {
		return ClusterInfo{}, damaged(path, errors.New("secret must be 64 hexadecimal digits"))
	}
	info := ClusterInfo{ID: stored.ID, Secret: secret, Founder: stored.Founder, Founded: stored.Founded, Removed: stored.Removed,
		Recovered: stored.Recovered, Settings: stored.Settings}
	for _, m := range stored.Seeds {
		member, err := m.member()
		if err != nil {
			return ClusterInfo{}, damaged(path, err)
		}
		info.Seeds = append(info.Seeds, member)
	}
	return info, nil
}

// Save writes the cluster's secret and seeds, readable by their owner only.
func (c ClusterInfo) Save(dir string) error {
	stored := clusterJSON{ID: c.ID, Secret: hex.EncodeToString(c.Secret), Founder: c.Founder, Founded: c.Founded, Removed: c.Removed,
		Recovered: c.Recovered, Settings: c.Settings}
	for _, m := range c.Seeds {
		stored.Seeds = append(stored.Seeds, newMemberJSON(m))
	}
	var err error
	if stored.Sum, err = stored.sum(); err != nil {
		return fmt.Errorf("encode %s: %w", clusterFile, err)
	}
	return writeJSON(filepath.Join(dir, clusterFile), stored)
}

func newMemberJSON(m api.Member) memberJSON {
	out := memberJSON{ID: m.ID.String(), Name: m.Name}
	for _, addr := range m.Addresses {
		out.Addresses = append(out.Addresses, addr.String())
	}
	return out
}

func (m memberJSON) member() (api.Member, error) {
	id, err := api.DecodePeer(m.ID)
	if err != nil {
		return api.Member{}, err
	}
	out := api.Member{ID: id, Name: m.Name}
	for _, text := range m.Addresses {
		addrs, err := api.ParseOrigins([]string{text})
		if err != nil {
			return api.Member{}, err
		}
		out.Addresses = append(out.Addresses, addrs...)
	}
	return out, nil
}

// checkFormat refuses a folder that a later version wrote, and marks a new one.
func checkFormat(dir string) error {
	path := filepath.Join(dir, formatFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return writeFile(path, []byte(strconv.Itoa(formatVersion)+"\n"))
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || version < 1 {
		return fmt.Errorf("%s: %q is not a format version; the file is damaged: remove it if no later version of cluster-service has run in %s, and it is written anew", path, data, dir)
	}
	if version > formatVersion {
		return fmt.Errorf("the folder %s has format %d and this program knows formats up to %d: start the newer version of cluster-service that wrote it", dir, version, formatVersion)
	}
	return nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields() // the name of a field may be what is damaged
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if len(bytes.TrimSpace(data[decoder.InputOffset():])) > 0 {
		return errors.New("something follows its end")
	}
	return nil
}

func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return writeFile(path, append(data, '\n'))
}

// writeFile replaces a file so that a crash leaves the old or the new one.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(temp.Name()) // fails when it was renamed, which is well
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

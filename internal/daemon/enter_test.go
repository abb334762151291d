package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/config"
)

// entering is the settings of a peer of a deployment on this machine.
func entering(name, listen string) config.Config {
	c := config.New()
	c.PeerName, c.ClusterListen = name, []string{listen}
	return c
}

func TestEnterFoundsOnce(t *testing.T) {
	dir := t.TempDir()
	d := Deployment{Secret: NewDeploymentSecret(), Founder: "a", Join: []string{"/ip4/127.0.0.1/tcp/1"}}
	c := entering("a", "/ip4/127.0.0.1/tcp/0")
	founded, err := Enter(t.Context(), dir, d, c, api.Version{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if !founded.Cluster.Founder || string(founded.Cluster.Secret) == string(d.Secret[:]) {
		t.Errorf("founded %+v", founded.Cluster)
	}
	before := filesOf(t, dir)
	again, err := Enter(t.Context(), dir, d, c, api.Version{}, slog.New(slog.DiscardHandler))
	if err != nil || again.Identity.ID != founded.Identity.ID || again.Cluster.ID != founded.Cluster.ID {
		t.Errorf("a second start: %+v, %v", again.Cluster, err)
	}
	d.Secret = NewDeploymentSecret()
	if _, err := Enter(t.Context(), dir, d, c, api.Version{}, slog.New(slog.DiscardHandler)); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("with another secret: %v", err)
	}
	if after := filesOf(t, dir); after != before {
		t.Errorf("later starts changed the folder:\n%s\n%s", before, after)
	}
}

func filesOf(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	for _, name := range []string{identityFile, clusterFile} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out.Write(data)
	}
	return out.String()
}

// TestIdentify meets everything that can be at an address.
func TestIdentify(t *testing.T) {
	secret := NewDeploymentSecret()
	h := swarmHost(t, secret)
	other := swarmHost(t, secret)
	stranger := swarmHost(t, NewDeploymentSecret())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := multiaddr.NewMultiaddr("/ip4/127.0.0.1/tcp/" + strings.TrimPrefix(closed.Addr().String(), "127.0.0.1:"))
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if id, err := identify(t.Context(), h.Host, secret.swarmKey(), other.addr); err != nil || id != other.ID() {
		t.Errorf("a peer of the deployment: %s, %v; want %s", id, err, other.ID())
	}
	for name, test := range map[string]struct {
		addr multiaddr.Multiaddr
		want error
	}{
		"itself":         {h.addr, errSelf},
		"another secret": {stranger.addr, errSecret},
		"nobody":         {gone, errNobody},
		"unknown name":   {multiaddr.StringCast("/dns4/nobody.invalid/tcp/9096"), errNobody},
	} {
		if id, err := identify(t.Context(), h.Host, secret.swarmKey(), test.addr); !errors.Is(err, test.want) {
			t.Errorf("%s: %s, %v; want %v", name, id, err, test.want)
		}
	}
}

// TestEnterSaysThatTheSecretIsWrong joins where only another deployment is.
func TestEnterSaysThatTheSecretIsWrong(t *testing.T) {
	stranger := swarmHost(t, NewDeploymentSecret())
	d := Deployment{Secret: NewDeploymentSecret(), Founder: "a", Join: []string{stranger.addr.String()}}
	for _, name := range []string{"a", "b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Enter(t.Context(), t.TempDir(), d, entering(name, "/ip4/127.0.0.1/tcp/0"), api.Version{}, slog.New(slog.DiscardHandler))
			if api.CodeOf(err) != api.CodeForbidden || !strings.Contains(err.Error(), "secret") {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestEnterWaits shows that the founder founds while others wait for it, and
// that those keep waiting until they are stopped.
func TestEnterWaits(t *testing.T) {
	secret := NewDeploymentSecret()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := "/ip4/127.0.0.1/tcp/" + strings.TrimPrefix(l.Addr().String(), "127.0.0.1:")
	l.Close()
	d := Deployment{Secret: secret, Founder: "a", Join: []string{at}}
	ctx, stop := context.WithCancel(t.Context())
	told, tell := io.Pipe()
	waited := make(chan error, 1)
	go func() {
		_, err := Enter(ctx, t.TempDir(), d, entering("b", at), api.Version{}, NewLogger("info", "text", tell))
		waited <- err
	}()
	if _, err := told.Read(make([]byte, 4096)); err != nil { // it listens and has begun to wait
		t.Fatal(err)
	}
	folder, err := Enter(t.Context(), t.TempDir(), d, entering("a", "/ip4/127.0.0.1/tcp/0"), api.Version{}, slog.New(slog.DiscardHandler))
	if err != nil || !folder.Cluster.Founder {
		t.Errorf("the founder: %+v, %v", folder.Cluster, err)
	}
	stop()
	if err := <-waited; err == nil {
		t.Error("nobody admitted the other peer, and it got in")
	}
}

type listening struct {
	host.Host
	addr multiaddr.Multiaddr
}

func swarmHost(t *testing.T, secret DeploymentSecret) listening {
	t.Helper()
	identity, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHost(identity, ClusterInfo{Secret: secret.swarmKey()}, []string{"/ip4/127.0.0.1/tcp/0"}, nil, joinConnections, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return listening{h, h.Addrs()[0]}
}

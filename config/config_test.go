package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func env(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "service.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	if problems := New().Validate(); len(problems) > 0 {
		t.Error(problems)
	}
	e, err := Load(filepath.Join(t.TempDir(), "none.json"), env(nil), nil)
	if err != nil || e.PeerName == "" {
		t.Errorf("peer %q, %v", e.PeerName, err)
	}
}

// Flags win over the environment, that over the file, that over the defaults;
// and show says which it was.
func TestPrecedence(t *testing.T) {
	path := writeConfig(t, `{"peername":"file","replication":{"min":2,"max":3},"repair":{"below_max_grace":"1h"},"tags":{"zone":"a"},"ipfs":{"storage_max":"10GB"}}`)
	secret := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(secret, []byte("ann:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Load(path, env(map[string]string{"CLUSTER_PEERNAME": "env", "CLUSTER_REPLICATION_MAX": "4", "CLUSTER_HTTP_USERS_FILE": secret}),
		map[string]string{"replication.max": "5"})
	if err != nil {
		t.Fatal(err)
	}
	if e.PeerName != "env" || e.ReplicationMin != 2 || e.ReplicationMax != 5 || e.BelowMaxGrace != time.Hour || e.Tags["zone"] != "a" ||
		e.IPFSStorageMax != 10_000_000_000 || e.Users["ann"] != "secret" {
		t.Errorf("got %+v", e.Config)
	}
	sources := map[string]string{}
	for _, line := range e.Lines() {
		sources[line.Key] = strings.Fields(line.Source)[0]
		if users, ok := line.Value.(map[string]string); ok && line.Key == "http.users" && users["ann"] != "(hidden)" {
			t.Errorf("a password is shown: %v", users)
		}
	}
	for key, want := range map[string]string{"peername": "environment", "replication.min": "file", "replication.max": "flag", "cluster.voters": "default", "http.users": "environment"} {
		if sources[key] != want {
			t.Errorf("%s comes from %s, not from %s", key, sources[key], want)
		}
	}
}

// Every problem is named, all at once.
func TestProblems(t *testing.T) {
	path := writeConfig(t, `{"peernam":"x","replication":{"min":3,"max":2},"cluster":{"listen":["nowhere"],"voters":4},"repair":{"below_min_grace":7},"log":{"level":"loud"},"ipfs":{"admit":["/ip4/127.0.0.1/tcp/4001"]}}`)
	_, err := Load(path, env(map[string]string{"CLUSTER_RESTAPI_LISTEN": "/ip4/0.0.0.0/tcp/9094", "CLUSTER_HTTP_INSECURE": "perhaps"}),
		map[string]string{"no.such": "1"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`unknown key "peernam"`, "ipfs.admit", "replication.min 3", `"nowhere" is not a multiaddr`, "cluster.voters: 4",
		"repair.below_min_grace", `log.level: "loud"`, "restapi.listen: /ip4/0.0.0.0/tcp/9094 is reachable", "CLUSTER_HTTP_INSECURE", `unknown setting "no.such"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %s in:\n%v", want, err)
		}
	}
}

func TestOpenListenersNeedCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		ok     bool
	}{
		"open":         {func(c *Config) { c.ProxyListen = []string{"/ip4/0.0.0.0/tcp/1"} }, false},
		"a name":       {func(c *Config) { c.RESTListen = []string{"/dns4/example.org/tcp/1"} }, false},
		"with users":   {func(c *Config) { c.ProxyListen = []string{"/ip4/0.0.0.0/tcp/1"}; c.Users = map[string]string{"a": "b"} }, true},
		"said so":      {func(c *Config) { c.ProxyListen = []string{"/ip4/0.0.0.0/tcp/1"}; c.Insecure = true }, true},
		"unix socket":  {func(c *Config) { c.RESTListen = []string{"/unix/tmp/x"} }, true},
		"gateway":      {func(c *Config) { c.IPFSGatewayListen = []string{"/ip4/0.0.0.0/tcp/1"} }, false},
		"public":       {func(c *Config) { c.IPFSGatewayListen = []string{"/ip4/0.0.0.0/tcp/1"}; c.GatewayPublic = true }, true},
		"only that":    {func(c *Config) { c.RESTListen = []string{"/ip4/0.0.0.0/tcp/1"}; c.GatewayPublic = true }, false},
		"v6 loopback":  {func(c *Config) { c.RESTListen = []string{"/ip6/::1/tcp/1"} }, true},
		"half of TLS":  {func(c *Config) { c.TLSCert = "x" }, false},
		"empty secret": {func(c *Config) { c.Users = map[string]string{"a": ""} }, false},
	} {
		c := New()
		test.change(&c)
		if problems := c.Validate(); (len(problems) == 0) != test.ok {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestNestAndRead(t *testing.T) {
	nested := Nest(map[string]any{"a.b": 1, "a.c": 2, "d": 3})
	inner, ok := nested["a"].(map[string]any)
	if !ok || inner["b"] != 1 || inner["c"] != 2 || nested["d"] != 3 {
		t.Errorf("got %v", nested)
	}
	keys := map[string]bool{}
	for _, s := range settings {
		if keys[s.key] || s.help == "" {
			t.Errorf("%s stands twice, or without help", s.key)
		}
		keys[s.key] = true
	}
	if slices.Contains(splitList("a, ,b"), "") {
		t.Error("an empty item in a list")
	}
}

// A file of settings that was cut off anywhere, or cannot be read, is an error
// and never the defaults or a part of the settings.
func TestCutSettings(t *testing.T) {
	whole := `{"peername": "a", "ipfs": {"public": false}, "replication": {"min": 2, "max": 3}}`
	path := filepath.Join(t.TempDir(), "service.json")
	for n := range len(whole) {
		if err := os.WriteFile(path, []byte(whole[:n]), 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := Load(path, func(string) (string, bool) { return "", false }, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("cut off after %d bytes: %+v, %v", n, e.Config.PeerName, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // reading it fails
		t.Fatal(err)
	}
	if _, err := Load(path, func(string) (string, bool) { return "", false }, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("not readable: %v", err)
	}
}

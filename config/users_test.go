package config

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// secretPart is in every password, so that a message that shows one is found.
const secretPart = "s3cr3t"

func TestUsers(t *testing.T) {
	const p = secretPart
	for _, test := range []struct {
		name       string
		file, text string // of NAME_FILE, and of NAME
		want       map[string]string
		problem    string
	}{
		{name: "one", file: "ann:" + p + "\n", want: map[string]string{"ann": p}},
		{name: "lines", file: "ann:" + p + "1\nbob:" + p + "2\n", want: map[string]string{"ann": p + "1", "bob": p + "2"}},
		{name: "CRLF, mark, blank line, comment", file: "\ufeff# users\r\nann:" + p + "1\r\n\r\nbob:" + p + "2\r\n", want: map[string]string{"ann": p + "1", "bob": p + "2"}},
		{name: "comma", file: "ann:" + p + ",x\n", want: map[string]string{"ann": p + ",x"}},
		{name: "colon", file: "ann:" + p + ":x\n", want: map[string]string{"ann": p + ":x"}},
		{name: "hash in a password", file: "ann:#" + p + "\n", want: map[string]string{"ann": "#" + p}},
		{name: "JSON", file: "\ufeff{\n\"ann\": \"" + p + ",x:y\", \"bob\": \" " + p + " \"\n}\n", want: map[string]string{"ann": p + ",x:y", "bob": " " + p + " "}},
		{name: "users on one line of a file", file: "ann:" + p + ",bob:" + p, problem: "line 1: a comma"},
		{name: "no colon", file: "ann:" + p + "\n" + p + "\n", problem: "line 2: no colon"},
		{name: "twice", file: "ann:" + p + "\nann:" + p + "\n", problem: "line 2: the same user"},
		{name: "no password", file: "ann:\n", problem: "line 1: user names and passwords"},
		{name: "no name", file: ":" + p, problem: "line 1: user names and passwords"},
		{name: "space at the end", file: "ann:" + p + " \n", problem: "line 1: a space"},
		{name: "tab inside", file: "ann:" + p + "\tx\n", problem: "line 1: a control"},
		{name: "empty", file: "\n", problem: "no user"},
		{name: "empty object", file: "{}", want: map[string]string{}},
		{name: "UTF-16", file: "\xff\xfea\x00", problem: "UTF-8"},
		{name: "hashed", file: "ann:$2y$10$abcdefghijklmnopqrstuv" + p, problem: "hash"},
		{name: "JSON list", file: `["ann:` + p + `"]`, problem: "line 1"},
		{name: "YAML", file: "ann: " + p, problem: "line 1: a space"},
		{name: "JSON number", file: "{\n\"ann\": 7}", problem: "line 2: a password that is no text"},
		{name: "JSON twice", file: `{"ann":"` + p + `","ann":"` + p + `"}`, problem: "the same user"},
		{name: "JSON cut", file: `{"ann":"` + p + `"`, problem: "does not end"},
		{name: "JSON and more", file: `{"ann":"` + p + `"} x`, problem: "behind the object"},
		{name: "inline", text: "ann:" + p + "1, bob:" + p + "2", want: map[string]string{"ann": p + "1", "bob": p + "2"}},
		{name: "inline, one with a colon", text: "ann:" + p + ":x", want: map[string]string{"ann": p + ":x"}},
		{name: "inline JSON", text: `{"ann":"` + p + `,x:y"}`, want: map[string]string{"ann": p + ",x:y"}},
		{name: "inline lines", text: "ann:" + p + ",x\nbob:" + p, want: map[string]string{"ann": p + ",x", "bob": p}},
		{name: "inline, a comma in a password", text: "ann:" + p + "," + p, problem: "user 2 of 2"},
		{name: "inline, colons and commas", text: "ann:" + p + ":x,bob:" + p, problem: "user 1 of 2"},
		{name: "inline, no colon", text: p, problem: "user 1 of 1"},
	} {
		variables := map[string]string{"CLUSTER_HTTP_USERS": test.text}
		if test.file != "" {
			path := filepath.Join(t.TempDir(), "users")
			if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			variables = map[string]string{"CLUSTER_HTTP_USERS_FILE": path}
		}
		e, err := Load(filepath.Join(t.TempDir(), "none"), env(variables), nil)
		switch {
		case test.problem != "":
			if err == nil || !strings.Contains(err.Error(), test.problem) || strings.Contains(err.Error(), p) {
				t.Errorf("%s: %v; want %q and no password", test.name, err, test.problem)
			}
		case err != nil:
			t.Errorf("%s: %v", test.name, err)
		case !maps.Equal(e.Users, test.want):
			t.Errorf("%s: got %v, want %v", test.name, e.Users, test.want)
		}
	}
}

func TestSecretGivenTwice(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none"), env(map[string]string{"CLUSTER_HTTP_USERS": "a:b", "CLUSTER_HTTP_USERS_FILE": "/x"}), nil)
	if err == nil || !strings.Contains(err.Error(), "CLUSTER_HTTP_USERS_FILE") {
		t.Error(err)
	}
}

func TestCheckEnvironment(t *testing.T) {
	remarks, err := CheckEnvironment([]string{"PATH=/bin", "CLUSTER_DIR=/x", "CLUSTER_HTTP_USERS_FILE=/x", "CLUSTER_TAGS=a:b",
		"CLUSTER_SERVICE_HOST=10.0.0.1", "CLUSTER_PORT_9094_TCP_ADDR=10.0.0.1", "CLUSTER_API_SERVICE_PORT_HTTP=1", "CLUSTER_RESTAPI_SSLKEYFILE=",
		"CLUSTER_REPLICATIONFACTORMIN=2", "CLUSTER_REPLICATION_MIM=2", "CLUSTER_WHATEVER_ELSE=1", "CLUSTER_PRIVATEKEY=x"})
	if err != nil {
		t.Error(err)
	}
	for i, want := range []string{"CLUSTER_PRIVATEKEY ", "CLUSTER_REPLICATIONFACTORMIN .* CLUSTER_REPLICATION_MIN", "CLUSTER_REPLICATION_MIM .* CLUSTER_REPLICATION_MIN",
		"CLUSTER_RESTAPI_SSLKEYFILE .* CLUSTER_HTTP_TLS_KEY", "CLUSTER_WHATEVER_ELSE .*config show"} {
		name, hint, _ := strings.Cut(want, ".*")
		if i >= len(remarks) || !strings.HasPrefix(remarks[i], name) || !strings.Contains(remarks[i], strings.TrimSpace(hint)) {
			t.Errorf("no %q in %q", want, remarks)
		}
	}
	for name, want := range map[string]string{"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS": "CLUSTER_HTTP_USERS", "CLUSTER_PINSVCAPI_SSLCERTFILE": "CLUSTER_HTTP_TLS_CERT",
		"CLUSTER_HTTP_USER": "CLUSTER_HTTP_USERS", "CLUSTER_HTTP_USERS_FILES": "CLUSTER_HTTP_USERS_FILE", "CLUSTER_HTTP_TLSCERT": "CLUSTER_HTTP_TLS_CERT",
		"CLUSTER_PASSWORD_FILE": "config show"} {
		if _, err := CheckEnvironment([]string{name + "=" + secretPart}); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secretPart) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for key, ours := range incumbent {
		if ours != "" && !known(ours) {
			t.Errorf("%s became %q, which is no setting", key, ours)
		}
	}
}

func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"nothing":                {func(*Config) {}, ""},
		"users, plain, loopback": {func(c *Config) { c.Users = users{"a": "b"} }, ""},
		"users, plain, open":     {func(c *Config) { c.Users, c.PinsvcListen = users{"a": "b"}, []string{"/ip4/0.0.0.0/tcp/1"} }, "pinsvc.listen: passwords cross"},
		"users, TLS, open": {func(c *Config) {
			c.Users, c.RESTListen, c.TLSCert = users{"a": "b"}, []string{"/ip4/0.0.0.0/tcp/1"}, "x"
		}, ""},
		"insecure":       {func(c *Config) { c.Insecure, c.RESTListen = true, []string{"/ip6/::/tcp/1"} }, "restapi.listen: whoever"},
		"public gateway": {func(c *Config) { c.GatewayPublic, c.IPFSGatewayListen = true, []string{"/ip4/0.0.0.0/tcp/1"} }, "ipfs.gateway_listen: whoever"},
	} {
		c := New()
		test.change(&c)
		got := c.Warnings()
		if test.want == "" && len(got) > 0 || test.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, test.want) }) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

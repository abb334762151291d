package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/daemon"
)

func run(environment map[string]string, args ...string) (string, error) {
	var out bytes.Buffer
	p := program{in: strings.NewReader(""), out: &out, err: &out, environment: func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}}
	err := p.app().Run(append([]string{"cluster-service"}, args...))
	return out.String(), err
}

func TestSecretsAreMadeOnce(t *testing.T) {
	dir := t.TempDir()
	if out, err := run(nil, "secret", "create", "--secrets", dir); err != nil || !strings.Contains(out, secretFile) {
		t.Fatalf("%q, %v", out, err)
	}
	secret, err := run(nil, "secret", "show", "--secrets", dir, secretFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.ParseDeploymentSecret(secret); err != nil {
		t.Errorf("%q: %v", secret, err)
	}
	if out, err := run(nil, "secret", "create", "--secrets", dir); err != nil || out != "" {
		t.Errorf("a second time: %q, %v", out, err)
	}
	if again, err := run(nil, "secret", "show", "--secrets", dir, secretFile); err != nil || again != secret {
		t.Errorf("it was %q and is %q (%v)", secret, again, err)
	}
	if info, err := os.Stat(filepath.Join(dir, usersFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestInitNeedsASecret(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("00ff\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, environment := range map[string]map[string]string{
		"CLUSTER_SECRET_FILE to its file": {},
		"64 hexadecimal digits":           {"CLUSTER_SECRET": "hello"},
		file:                              {"CLUSTER_SECRET_FILE": file},
		"no such file":                    {"CLUSTER_SECRET_FILE": file + "x"},
		"neither to found":                {"CLUSTER_SECRET": daemon.NewDeploymentSecret().String()},
	} {
		_, err := run(environment, "daemon", "--init", "--dir", filepath.Join(dir, "peer"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", environment, err, want)
		}
	}
}

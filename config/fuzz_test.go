package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzFile reads any bytes as service.json and any text as one setting. What is
// accepted passes every check and can be shown.
func FuzzFile(f *testing.F) {
	for _, seed := range []struct{ file, value string }{
		{`{}`, ""}, {`{"peername":"a","replication":{"min":2,"max":3},"tags":{"zone":"a"},"ipfs":{"storage_max":"10GB"}}`, "1"},
		{`{"repair":{"below_max_grace":"1h"},"http":{"users":{"a":"b"},"insecure":true}}`, "10m"}, {`{"repair":7}`, "a:b,c:d"},
		{`[]`, "/ip4/127.0.0.1/tcp/1"}, {`{"ipfs":{"storage_max":-1}}`, "-1"}, {`{"restapi":{"listen":"/ip4/0.0.0.0/tcp/1"}}`, "x"},
	} {
		f.Add([]byte(seed.file), uint8(len(seed.file)), seed.value)
	}
	path := filepath.Join(f.TempDir(), "service.json")
	f.Fuzz(func(t *testing.T, file []byte, which uint8, value string) {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		key := settings[int(which)%len(settings)].key
		e, err := Load(path, env(nil), map[string]string{key: value})
		if err != nil {
			return
		}
		if problems := e.Validate(); len(problems) > 0 {
			t.Errorf("%s with %s=%q was accepted: %v", file, key, value, problems)
		}
		if _, err := json.Marshal(e.Lines()); err != nil {
			t.Errorf("%s with %s=%q cannot be shown: %v", file, key, value, err)
		}
	})
}

package restapi

import (
	"bytes"
	"encoding/json"
	"testing"

	"holdfast/api"
)

// Whatever a body holds, each line that is not blank has its number and is
// refused with a code, or says the same after it was written and read again.
func FuzzBulk(f *testing.F) {
	for _, seed := range []string{"", "\n\n", `{"cid":"bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy","name":"a"}` + "\n" + `{"unpin":"QmWATWQ7fVPP2EFGu71UkfnqhYXDYH566qy47CnJDgvs8u"}`,
		`{"path":"/ipns/example.com/a","mode":"direct","max_depth":0,"expire_at":"2100-01-01T00:00:00Z","origins":["/ip4/1.2.3.4/tcp/1/p2p/12D3KooWGRUVh7vKjCTiUzvEgYd9Z6DNxqVSqaGeFrMJyC8Mpnn5"]}`,
		`{"cid":null}`, `{"cid":"","unpin":"x"}`, `{"allocations":[1],"cid":"bafy"} {}`, "{\"metadata\":{\"\":\"\"}}\r\n[]\n7\n\"\"", "{\"cid\":\xff}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in := newBulkReader(bytes.NewReader(body), "key", 1)
		last := 0
		for line := range in.lines() {
			if line.Line <= last {
				t.Fatalf("line %d follows line %d", line.Line, last)
			}
			last = line.Line
			if line.Err != nil {
				if line.Err.Code != api.CodeInvalid && line.Err.Code != api.CodeTooLarge {
					t.Errorf("line %d: %s %v", line.Line, line.Err.Code, line.Err)
				}
				continue
			}
			if line.Cid.Defined() == (line.Path != "") || line.RequestID == "" {
				t.Errorf("line %d: %+v", line.Line, line)
			}
			if err := line.Options.Validate(); err != nil {
				t.Errorf("line %d was accepted: %v", line.Line, err)
			}
			written, err := json.Marshal(line)
			if err != nil {
				t.Fatal(err)
			}
			again := api.BulkLine{}
			if err := json.Unmarshal(written, &again); err != nil {
				t.Fatalf("line %d as %s: %v", line.Line, written, err)
			}
			if second, err := json.Marshal(again); err != nil || !bytes.Equal(written, second) {
				t.Errorf("line %d: %s became %s, %v", line.Line, written, second, err)
			}
		}
		if in.err != nil {
			t.Error(in.err)
		}
	})
}

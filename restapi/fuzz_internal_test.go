package restapi

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"holdfast/api"
)

// Whatever a query string holds, it is refused with code invalid (or
// unsupported) or gives options that pass every check.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "mode=direct&replication=2&meta-a=b", "expire-in=1h&expire-at=2100-01-01T00:00:00Z",
		"origins=/ip4/1.2.3.4/tcp/1", "cids=Qm,bafy&limit=1", "hash=sha3-512&cid-version=1&raw-leaves=false", "%zz", "a=1;b=2",
		"user-allocations=12D3KooWGRUVh7vKjCTiUzvEgYd9Z6DNxqVSqaGeFrMJyC8Mpnn5&replication-min=-1&replication-max=-1", "shard=true&nocopy=1"} {
		f.Add(seed)
	}
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, raw string) {
		q := parseQuery(&http.Request{URL: &url.URL{RawQuery: raw}})
		p := q.addParams(now)
		if q.err != nil {
			if code := api.CodeOf(q.err); code != api.CodeInvalid && code != api.CodeUnsupported {
				t.Errorf("%q: %s %v", raw, code, q.err)
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%q was accepted: %v", raw, err)
		}
		if !p.ExpireAt.IsZero() && !p.ExpireAt.After(now) {
			t.Errorf("%q expires at %v", raw, p.ExpireAt)
		}
		if (p.Format != "unixfs" && p.Format != "car") || (p.CidVersion != 0 && p.CidVersion != 1) {
			t.Errorf("%q: %+v", raw, p)
		}
	})
}

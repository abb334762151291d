package daemon

import (
	"encoding/base64"
	"reflect"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// FuzzJoinToken reads any text as a token. It is refused with code invalid, or
// is written and read again as the same.
func FuzzJoinToken(f *testing.F) {
	digest, err := multihash.Sum([]byte("peer"), multihash.SHA2_256, -1)
	if err != nil {
		f.Fatal(err)
	}
	info := NewClusterInfo()
	for _, expires := range []time.Time{never, {}} {
		token, _ := newJoinToken(info, []api.Member{{ID: peer.ID(digest), Name: "peer0"}}, expires)
		f.Add(token.String())
	}
	for _, body := range []string{"", "null", "{}", `{"expires":"9999-01-01T00:00:00Z"}`, `{"members":7}`, `{"expires":"9999-01-01T00:00:00+23:59","members":[{}]}`} {
		f.Add(TokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(body)))
	}
	f.Add("holdfast2.e30")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseJoinToken(text)
		if err != nil {
			if api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := ParseJoinToken(token.String())
		if err != nil || !again.Expires.Equal(token.Expires) {
			t.Fatalf("%+v was written as %q and read as %+v: %v", token, token.String(), again, err)
		}
		again.Expires = token.Expires
		if !reflect.DeepEqual(again, token) {
			t.Errorf("%+v became %+v", token, again)
		}
		for _, m := range token.Members {
			_, _ = m.member() // must not panic
		}
	})
}

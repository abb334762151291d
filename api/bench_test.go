package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A pin as REST answers carry it.
func BenchmarkPinJSON(b *testing.B) {
	c, err := DecodeCid("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
	if err != nil {
		b.Fatal(err)
	}
	holder, err := DecodePeer("12D3KooWP9gHrt3fAnsRSUiFw2cvJMMR1AJfDoPCWvBNpPtc2mp8")
	if err != nil {
		b.Fatal(err)
	}
	pin := Pin{PinOptions: PinOptions{Name: "a name", Mode: ModeRecursive, ReplicationFactorMin: 2, ReplicationFactorMax: 2,
		Metadata: map[string]string{"owner": "somebody"}}, Cid: c, Type: TypeData, Allocations: []peer.ID{holder, holder},
		Timestamp: time.Unix(1e9, 5), Revision: 77}
	text, err := json.Marshal(pin)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(pin); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var got Pin
			if err := json.Unmarshal(text, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
}

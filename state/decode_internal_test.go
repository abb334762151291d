package state

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"holdfast/api"
	"holdfast/state/statepb"
)

// FuzzDecode compares the generated decoder, which shares memory, with that of
// the protobuf library, which wrote and read the first entries of the log.
func FuzzDecode(f *testing.F) {
	at := time.Unix(1_700_000_000, 0)
	f.Add(InitClusterCommand{ClusterID: "cluster", Member: api.Member{ID: "peer", Name: "name", JoinedAt: at}}.Encode())
	f.Add(PinCommand{Pin: api.Pin{PinOptions: api.PinOptions{Name: "name", Metadata: map[string]string{"a": "b"}, ExpireAt: at}}, RequestID: "1", At: at}.Encode())
	f.Add(UnpinCommand{Expect: 7, At: at}.Encode())
	f.Add(RaiseVersionCommand{Version: 2}.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		got, want := &statepb.Command{}, &statepb.Command{}
		gotErr, wantErr := got.UnmarshalVTUnsafe(data), proto.Unmarshal(data, want)
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%x: %v, the library: %v", data, gotErr, wantErr)
		}
		if gotErr != nil {
			return
		}
		if !proto.Equal(got, want) {
			t.Fatalf("%x is %v, the library: %v", data, got, want)
		}
		again := &statepb.Command{}
		if err := proto.Unmarshal(marshal(got), again); err != nil || !proto.Equal(again, want) {
			t.Fatalf("%x was written as %v, want %v (%v)", data, again, want, err)
		}
	})
}

package state

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/api"
	"holdfast/state/statepb"
)

// FuzzDecode compares the generated decoder, which shares memory, with that of
// the protobuf library, which wrote and read the first entries of the log. They
// differ in what they make of fields that neither knows or that have another
// type: one refuses what the other keeps aside, and decodeCommand refuses both.
// And the generated one reads numbers of more than 64 bits, which nobody writes.
func FuzzDecode(f *testing.F) {
	at := time.Unix(1_700_000_000, 0)
	f.Add(InitClusterCommand{ClusterID: "cluster", Member: api.Member{ID: "peer", Name: "name", JoinedAt: at}}.Encode())
	f.Add(PinCommand{Pin: api.Pin{PinOptions: api.PinOptions{Name: "name", Metadata: map[string]string{"a": "b"}, ExpireAt: at}}, RequestID: "1", At: at}.Encode())
	f.Add(UnpinCommand{Expect: 7, At: at}.Encode())
	f.Add(RaiseVersionCommand{Version: 2}.Encode())
	f.Add([]byte("00"))                                           // a known field of another type
	f.Add([]byte("\x08\x01\x12\x0e\x4311000000000\xc4\x9f\xd50")) // a group that ends as another
	f.Add([]byte("\x08\xdd\xdd\xdd\xdd\xff\xdd\xff\xff\xee0"))    // a number of more than 64 bits
	f.Fuzz(func(t *testing.T, data []byte) {
		got, want := &statepb.Command{}, &statepb.Command{}
		gotErr, wantErr := got.UnmarshalVTUnsafe(data), proto.Unmarshal(data, want)
		gotErr, wantErr = cmp.Or(gotErr, unknownField(got)), cmp.Or(wantErr, unknownField(want))
		if gotErr != nil && wantErr == nil {
			t.Fatalf("%x: %v, the library reads it", data, gotErr)
		}
		if gotErr != nil {
			if err := decodeCommand(&statepb.Command{}, data, CommandVersion); err == nil {
				t.Fatalf("%x was decoded in spite of %v", data, gotErr)
			}
			return
		}
		if wantErr == nil && !proto.Equal(got, want) {
			t.Fatalf("%x is %v, the library: %v", data, got, want)
		}
		again := &statepb.Command{}
		if err := proto.Unmarshal(marshal(got), again); err != nil || !proto.Equal(again, got) {
			t.Fatalf("%x was written as %v, want %v (%v)", data, again, got, err)
		}
	})
}

// unknownField is an error if a message, or one within it, has fields that this
// program does not know.
func unknownField(message proto.Message) error {
	return protorange.Range(message.ProtoReflect(), func(at protopath.Values) error {
		if m, ok := at.Index(-1).Value.Interface().(protoreflect.Message); ok && len(m.GetUnknown()) > 0 {
			return fmt.Errorf("%s has an unknown field", m.Descriptor().Name())
		}
		return nil
	})
}

// Package statepb holds the encoding of the pinset's commands and values.
//
// After a change of state.proto run the following in the root of the
// repository, with protoc 21.12 (Debian's protobuf-compiler), protoc-gen-go
// v1.36.12 and protoc-gen-go-vtproto at the version of vtprotobuf in go.mod:
//
//	protoc --go_out=. --go_opt=module=holdfast --go-vtproto_out=. \
//	  --go-vtproto_opt=module=holdfast,features=marshal+unmarshal_unsafe+size \
//	  state/statepb/state.proto
//
// UnmarshalVTUnsafe shares the memory of what it decodes, which must not change
// as long as the message is used.
//
// The generated files are committed, so that a clean clone builds.
package statepb

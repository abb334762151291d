// Package statepb holds the encoding of the pinset's commands and values.
//
// After a change of state.proto run the following in the root of the
// repository, with protoc 21.12 (Debian's protobuf-compiler) and protoc-gen-go
// v1.36.12:
//
//	protoc --go_out=. --go_opt=module=holdfast state/statepb/state.proto
//
// The generated file is committed, so that a clean clone builds.
package statepb

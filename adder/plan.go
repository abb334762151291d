package adder

import (
	"bytes"
	"strings"

	"github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/verifcid"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// plan is a checked form of AddParams.
type plan struct {
	params    api.AddParams
	car       bool
	trickle   bool
	rawLeaves bool
	prefix    cid.Prefix // of dag-pb nodes
}

// newPlan checks parameters; all errors have code invalid.
func newPlan(params api.AddParams) (plan, error) {
	p := plan{params: params, rawLeaves: params.RawLeaves}
	if err := params.Validate(); err != nil {
		return plan{}, err
	}
	switch params.Format {
	case "", "unixfs":
	case "car":
		p.car = true
		if params.Wrap {
			return plan{}, api.Errorf(api.CodeInvalid, "a CAR is added as it is: wrap-with-directory does not go with format car")
		}
		return p, nil
	default:
		return plan{}, api.Errorf(api.CodeInvalid, "unknown format %q; it is unixfs or car", params.Format)
	}
	switch params.Layout {
	case "", "balanced":
	case "trickle":
		p.trickle = true
	default:
		return plan{}, api.Errorf(api.CodeInvalid, "unknown layout %q; it is balanced or trickle", params.Layout)
	}
	if _, err := chunk.FromString(bytes.NewReader(nil), params.Chunker); err != nil {
		return plan{}, api.Errorf(api.CodeInvalid, "chunker %q: %w; give one such as size-262144, rabin-262144-524288-1048576 or buzhash", params.Chunker, err)
	}
	return p, p.setPrefix()
}

// setPrefix chooses CID version, hash and raw leaves as ipfs add does.
func (p *plan) setPrefix() error {
	name := strings.ToLower(p.params.HashFun)
	if name == "" {
		name = "sha2-256"
	}
	hash, ok := multihash.Names[name]
	if !ok || !verifcid.DefaultAllowlist.IsAllowed(hash) {
		return api.Errorf(api.CodeInvalid, "unknown or unsafe hash function %q; sha2-256 and blake2b-256 are usual", p.params.HashFun)
	}
	version := p.params.CidVersion
	if version != 0 && version != 1 {
		return api.Errorf(api.CodeInvalid, "unknown CID version %d; it is 0 or 1", version)
	}
	if version == 0 && hash != multihash.SHA2_256 {
		// Version 0 has no room for other hashes: these imply version 1, and
		// that implies raw leaves. Who wants 1 without raw leaves asks for 1.
		version, p.rawLeaves = 1, true
	}
	p.prefix = cid.Prefix{Version: uint64(version), Codec: cid.DagProtobuf, MhType: hash, MhLength: -1}
	if _, err := p.prefix.Sum(nil); err != nil {
		return api.Errorf(api.CodeInvalid, "hash function %q: %w", p.params.HashFun, err)
	}
	return nil
}

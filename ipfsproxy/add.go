package ipfsproxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"holdfast/api"
)

var addOptions = append([]option{
	{"recursive", "r", isBool}, {"dereference-args", "", isBool}, {"dereference-symlinks", "", isBool}, {"stdin-name", "", isString},
	{"hidden", "H", isBool}, {"ignore-rules-path", "", isString}, {"empty-dirs", "E", isBool},
	{"quiet", "q", isBool}, {"quieter", "Q", isBool}, {"silent", "", isBool}, {"progress", "p", isBool},
	{"only-hash", "n", isBool}, {"wrap-with-directory", "w", isBool}, {"pin", "", isBool}, {"pin-name", "", isString},
	{"to-files", "", isString}, {"cid-version", "", isInt}, {"hash", "", isString}, {"raw-leaves", "", isBool},
	{"chunker", "s", isString}, {"trickle", "t", isBool},
	{"max-file-links", "", isInt}, {"max-directory-links", "", isInt}, {"max-hamt-fanout", "", isInt},
	{"inline", "", isBool}, {"inline-limit", "", isInt}, {"nocopy", "", isBool}, {"fscache", "", isBool},
	{"preserve-mode", "", isBool}, {"preserve-mtime", "", isBool}, {"mtime", "", isInt64}, {"mtime-nsecs", "", isUint},
	{"no-pin", "", isBool}, {"local", "", isBool}, {"shard", "", isBool},
}, fastProvide...)

// addEvent tells of one file or folder, or of progress with one.
type addEvent struct {
	Name       string
	Hash       string `json:",omitempty"`
	Bytes      uint64 `json:",omitempty"`
	Size       string `json:",omitempty"`
	Mode       string `json:",omitempty"`
	Mtime      int64  `json:",omitempty"`
	MtimeNsecs int    `json:",omitempty"`
}

// Kubo has no text of an event: it prints the Go value.
func (v addEvent) text() string {
	if v.Hash == "" {
		return ""
	}
	return fmt.Sprintf("added %s %s\n", v.Hash, v.Name)
}

// add makes the DAG with the cluster's adder, so its blocks are on every peer
// that shall hold them when the root's event is sent.
func (p *proxy) add(ctx context.Context, c *call, a *answer) error {
	if err := c.refuse(); err != nil {
		return err
	}
	params, err := c.addParams(time.Now())
	if err != nil {
		return err
	}
	write, err := c.writer()
	if err != nil {
		return err
	}
	silent := c.on("silent", false)
	return p.deps.Adder.Add(ctx, c.upload, params, func(out api.AddedOutput) error {
		if silent {
			return nil
		}
		event := addEvent{Name: out.Name}
		if out.Cid.Defined() {
			event.Hash, event.Size = write.write(out.Cid.Cid), strconv.FormatUint(out.Size, 10)
		} else {
			event.Bytes = out.Bytes
		}
		if out.Mode != 0 {
			event.Mode = "0" + strconv.FormatUint(uint64(out.Mode), 8)
		}
		if !out.Mtime.IsZero() {
			event.Mtime, event.MtimeNsecs = out.Mtime.Unix(), out.Mtime.Nanosecond()
		}
		return a.emit(event)
	})
}

// addParams reads what makes the DAG and the pin.
func (c *call) addParams(now time.Time) (api.AddParams, error) {
	params := api.NewAddParams()
	options, err := c.pinOptions(now)
	if err != nil {
		return params, err
	}
	params.PinOptions = options
	if c.text("mode") == string(api.ModeDirect) {
		params.Mode = api.ModeDirect
	}
	params.OnlyHash = c.on("only-hash", false)
	params.NoPin = params.OnlyHash || !c.on("pin", true) || c.on("no-pin", false)
	if c.given("pin-name") {
		if params.NoPin {
			return params, errors.New("pin-name option requires pin to be set")
		}
		if len(c.text("pin-name")) > maxPinName {
			return params, fmt.Errorf("pin name is %d bytes (max %d bytes)", len(c.text("pin-name")), maxPinName)
		}
		params.Name = c.text("pin-name")
	}
	if c.on("trickle", c.text("layout") == "trickle") {
		params.Layout = "trickle"
	}
	if c.text("chunker") != "" {
		params.Chunker = c.text("chunker")
	}
	if c.text("hash") != "" {
		params.HashFun = c.text("hash")
	}
	params.Wrap = c.on("wrap-with-directory", false)
	params.Progress = c.on("progress", false)
	params.Local = c.on("local", false)
	version := 0
	if params.HashFun != "sha2-256" {
		version = 1 // version 0 has no room for other hashes
		if c.given("cid-version") && c.integer("cid-version", 0) == 0 {
			return params, errors.New("CIDv0 only supports sha2-256")
		}
	}
	params.CidVersion = c.integer("cid-version", version)
	params.RawLeaves = c.on("raw-leaves", params.CidVersion > 0)
	return params, nil
}

// refuse tells of options that a cluster cannot honour, instead of ignoring
// them.
func (c *call) refuse() error {
	const alone = "add without it, or to one node alone by its own API"
	for _, name := range []string{"inline", "nocopy", "fscache", "preserve-mode", "preserve-mtime", "shard"} {
		if c.on(name, false) {
			return unsupported(name, alone)
		}
	}
	if !c.on("empty-dirs", true) {
		return unsupported("empty-dirs=false", "leave empty folders out of the upload")
	}
	if c.given("to-files") {
		return unsupported("to-files", "add without it, then use 'ipfs files cp /ipfs/CID PATH'")
	}
	for name, usual := range map[string]int{"max-file-links": 174, "max-directory-links": 0, "max-hamt-fanout": 256, "mtime": 0, "mtime-nsecs": 0} {
		if c.integer(name, usual) != usual {
			return unsupported(name, alone)
		}
	}
	switch c.text("mode") {
	case "", "0", string(api.ModeDirect), string(api.ModeRecursive):
		return nil
	}
	return unsupported("mode", alone)
}

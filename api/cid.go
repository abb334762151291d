package api

import (
	"encoding/json"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Cid is a content identifier whose JSON is its text ("Qm…", "bafy…"), or null
// when it is undefined, as the incumbent's clients expect.
type Cid struct {
	cid.Cid
}

// NewCid wraps a CID.
func NewCid(c cid.Cid) Cid { return Cid{Cid: c} }

// DecodeCid parses the text of a CID; the error has code invalid.
func DecodeCid(text string) (Cid, error) {
	c, err := cid.Decode(text)
	if err != nil {
		return Cid{}, Errorf(CodeInvalid, "%q is not a CID: %w; give one such as bafybei… or Qm…", text, err)
	}
	return Cid{Cid: c}, nil
}

// String returns the text of the CID, or "" when it is undefined.
func (c Cid) String() string {
	if !c.Defined() {
		return ""
	}
	return c.Cid.String()
}

// MarshalJSON writes the text of the CID, or null.
func (c Cid) MarshalJSON() ([]byte, error) {
	if !c.Defined() {
		return []byte("null"), nil
	}
	text := c.Cid.String()
	return append(append(append(make([]byte, 0, len(text)+2), '"'), text...), '"'), nil // no base has letters that JSON escapes
}

// UnmarshalJSON reads the text of a CID; null and "" leave it undefined.
func (c *Cid) UnmarshalJSON(data []byte) error {
	text, plain := plainText(data)
	if !plain {
		var value *string
		if err := json.Unmarshal(data, &value); err != nil {
			return fmt.Errorf("a CID is a JSON string: %w", err)
		}
		if value != nil {
			text = *value
		}
	}
	if text == "" {
		*c = Cid{}
		return nil
	}
	decoded, err := DecodeCid(text)
	if err != nil {
		return err
	}
	*c = decoded
	return nil
}

// plainText returns the content of a JSON string of letters and digits, which is
// what all CIDs are written with; false: it is something else.
func plainText(data []byte) (string, bool) {
	if len(data) < 2 || data[0] != '"' || data[len(data)-1] != '"' {
		return "", false
	}
	text := data[1 : len(data)-1]
	for _, b := range text {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') {
			return "", false
		}
	}
	return string(text), true
}

// MarshalBinary writes the bytes of the CID; none when it is undefined.
func (c Cid) MarshalBinary() ([]byte, error) { return c.Bytes(), nil }

// UnmarshalBinary reads what MarshalBinary wrote.
func (c *Cid) UnmarshalBinary(data []byte) error {
	if len(data) == 0 {
		*c = Cid{}
		return nil
	}
	decoded, err := cid.Cast(data)
	if err != nil {
		return fmt.Errorf("decode CID: %w", err)
	}
	*c = Cid{Cid: decoded}
	return nil
}

// DecodePeer parses the text of a peer ID; the error has code invalid.
func DecodePeer(text string) (peer.ID, error) {
	id, err := peer.Decode(text)
	if err != nil {
		return "", Errorf(CodeInvalid, "%q is not a peer ID: %w; 'cluster-ctl peers ls' shows the cluster's", text, err)
	}
	return id, nil
}

package msgpack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/ugorji/go/codec"
)

// The scanner finds the ends of messages where the decoder does, however they
// are cut into pieces.
func FuzzScanner(f *testing.F) {
	f.Add([]byte{0x81, 0xa1, 'a', 0x93, 1, 0xc0, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0}, uint64(1))
	f.Add([]byte{0xc4, 2, 1, 2, 0xd9, 1, 'x', 0xdc, 0, 1, 0xde, 0, 0}, uint64(2))
	f.Add([]byte{0xd4, 1, 2, 0xc7, 1, 2, 3, 0xcd, 1, 2, 0xd3, 1, 2, 3, 4, 5, 6, 7, 8}, uint64(3))
	f.Add([]byte{0xd8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0xff}, uint64(4))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		limits := Limits{Depth: 16, Cost: 1 << 16}
		s, rng := NewScanner(limits), rand.New(rand.NewPCG(seed, 0))
		var ends []int
		at := 0
		for at < len(data) {
			piece := data[at : at+1+rng.IntN(len(data)-at)]
			n, ended, err := s.Next(piece)
			at += n
			if err != nil {
				break
			}
			if ended {
				ends = append(ends, at)
			}
		}
		r := bytes.NewReader(data)
		for i, end := range ends {
			var raw codec.Raw
			decoder := codec.NewDecoder(r, &codec.MsgpackHandle{})
			if err := decoder.Decode(&raw); err != nil {
				t.Fatalf("message %d, which ends at %d: %v", i, end, err)
			}
			if read := len(data) - r.Len(); read != end {
				t.Fatalf("message %d ends at %d, the decoder says %d", i, end, read)
			}
		}
	})
}

func TestLimits(t *testing.T) {
	limits := Limits{Depth: 4, Cost: 10_000}
	for name, test := range map[string]struct {
		data []byte
		want error
	}{
		"deep enough":  {[]byte{0x91, 0x91, 0x91, 0x91, 0xc0}, nil},
		"too deep":     {[]byte{0x91, 0x91, 0x91, 0x91, 0x91}, ErrTooDeep},
		"maps":         {[]byte{0x81, 0x81, 0x81, 0x81, 0x81}, ErrTooDeep},
		"wide":         {[]byte{0xdc, 0x00, 0x20}, ErrTooLarge},
		"long":         {[]byte{0xda, 0x27, 0x20}, ErrTooLarge},
		"long in all":  {bytes.Repeat([]byte{0x92, 0xda, 0x20, 0x00}, 2), nil},
		"short":        {[]byte{0xda, 0x00, 0x01, 'x'}, nil},
		"the largest":  {[]byte{0xc6, 0xff, 0xff, 0xff, 0xff}, ErrTooLarge},
		"the widest":   {[]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, ErrTooLarge},
		"begins none":  {[]byte{0xc1}, errNoCode},
		"many of them": {bytes.Repeat([]byte{0xc0}, 100_000), nil},
	} {
		s := NewScanner(limits)
		var err error
		for data := test.data; len(data) > 0 && err == nil; {
			var n int
			n, _, err = s.Next(data)
			data = data[n:]
		}
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

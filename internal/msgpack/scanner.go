package msgpack

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits bound what one message may make its reader do. A decoder that calls
// itself for each level ends the process when the stack is full, and one that
// makes room for what a header promises fills the memory.
type Limits struct {
	// Depth is how deep arrays and maps may be nested.
	Depth int
	// Cost is roughly how many bytes of memory the decoded message may take.
	Cost int64
}

// What a message costs besides its own bytes: an element of an array may be
// one byte on the wire and a large struct in memory.
const (
	elementCost = 512 // of an array
	entryCost   = 64  // of a map
)

// ErrTooDeep and ErrTooLarge are what a message was refused for.
var (
	ErrTooDeep  = errors.New("a message is nested too deeply")
	ErrTooLarge = errors.New("a message is too large")
	errNoCode   = errors.New("a message holds a byte that begins nothing")
)

// Scanner follows the structure of messages without decoding them. It holds a
// few bytes for each open container, and never the message.
type Scanner struct {
	limits Limits
	cost   int64
	open   []uint64 // how many values are still to come in each open container
	skip   uint64   // bytes of a value that are still to come
	head   []byte   // a header that has not fully come
	need   int      // bytes of the whole header; 0: a new value begins
	code   byte     // of the last message: its first byte
	inside bool     // a message has begun
}

// NewScanner returns a scanner that stands before a message.
func NewScanner(limits Limits) *Scanner {
	return &Scanner{limits: limits, head: make([]byte, 0, 6)}
}

// Cost is what the message that is being read costs so far.
func (s *Scanner) Cost() int64 { return s.cost }

// Inside says that a message has begun and not ended.
func (s *Scanner) Inside() bool { return s.inside }

// Code is the first byte of the message that was begun last.
func (s *Scanner) Code() byte { return s.code }

// Nil is the message that is nothing.
const Nil byte = 0xc0

// Next follows the bytes up to the end of a message or of what there is. It
// returns how many it took, and whether a message ended with them. With an
// error the bytes before the offending value were taken.
func (s *Scanner) Next(data []byte) (taken int, ended bool, err error) {
	for taken < len(data) {
		if s.skip > 0 {
			n := min(s.skip, uint64(len(data)-taken))
			s.skip -= n
			taken += int(n)
			if s.skip > 0 {
				return taken, false, nil
			}
			if s.close() {
				return taken, true, nil
			}
			continue
		}
		if s.need == 0 {
			if err := s.begin(data[taken]); err != nil {
				return taken, false, err
			}
		}
		n := min(s.need-len(s.head), len(data)-taken)
		s.head = append(s.head, data[taken:taken+n]...)
		if len(s.head) < s.need {
			return taken + n, false, nil
		}
		done, err := s.value()
		if err != nil {
			return taken, false, err
		}
		taken += n
		if done {
			return taken, true, nil
		}
	}
	return taken, false, nil
}

// begin looks at the first byte of a value.
func (s *Scanner) begin(code byte) error {
	if !s.inside {
		s.inside, s.code, s.cost = true, code, 0
	}
	s.head, s.need = s.head[:0], 1
	switch {
	case code < 0xc0 || code >= 0xe0: // short numbers, texts and containers
	case code == 0xc1:
		return fmt.Errorf("%w: %#x", errNoCode, code)
	case code <= 0xc3 || code >= 0xca && code <= 0xd8: // values of a fixed length
	case code <= 0xc9: // bytes and extensions
		s.need += 1 << ((code - 0xc4) % 3)
	case code <= 0xdb: // texts
		s.need += 1 << (code - 0xd9)
	default: // containers
		s.need += 2 << (code & 1)
	}
	return nil
}

// value acts on a header that is complete. It says whether the message ends
// with it.
func (s *Scanner) value() (ended bool, err error) {
	code := s.head[0]
	length := number(s.head[1:])
	s.need = 0
	switch {
	case code >= 0x80 && code <= 0x8f:
		return s.container(uint64(code&0x0f), true)
	case code >= 0x90 && code <= 0x9f:
		return s.container(uint64(code&0x0f), false)
	case code >= 0xa0 && code <= 0xbf:
		return s.bytes(uint64(code & 0x1f))
	case code >= 0xc4 && code <= 0xc6 || code >= 0xd9 && code <= 0xdb:
		return s.bytes(length)
	case code >= 0xc7 && code <= 0xc9:
		return s.bytes(length + 1) // and a byte for the kind
	case code == 0xca || code == 0xcb:
		return s.bytes(4 << (code - 0xca))
	case code >= 0xcc && code <= 0xd3:
		return s.bytes(1 << (code & 3))
	case code >= 0xd4 && code <= 0xd8:
		return s.bytes(1<<(code-0xd4) + 1)
	case code == 0xdc || code == 0xdd:
		return s.container(length, false)
	case code == 0xde || code == 0xdf:
		return s.container(length, true)
	}
	return s.bytes(0)
}

func number(data []byte) uint64 {
	var wide [8]byte
	copy(wide[8-len(data):], data)
	return binary.BigEndian.Uint64(wide[:])
}

// bytes lets so many bytes pass.
func (s *Scanner) bytes(length uint64) (ended bool, err error) {
	if err := s.pay(int64(length) + 1); err != nil {
		return false, err
	}
	if s.skip = length; length > 0 {
		return false, nil
	}
	return s.close(), nil
}

func (s *Scanner) container(length uint64, entries bool) (ended bool, err error) {
	if len(s.open) >= s.limits.Depth {
		return false, fmt.Errorf("%w: more than %d levels", ErrTooDeep, s.limits.Depth)
	}
	cost := int64(elementCost)
	if entries {
		cost = entryCost
	}
	if err := s.pay(int64(length)*cost + 1); err != nil {
		return false, err
	}
	if entries {
		length *= 2
	}
	if length == 0 {
		return s.close(), nil
	}
	s.open = append(s.open, length)
	return false, nil
}

func (s *Scanner) pay(cost int64) error {
	if s.cost += cost; s.cost > s.limits.Cost {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, s.limits.Cost)
	}
	return nil
}

// close ends a value, and the containers that it was the last one of.
func (s *Scanner) close() (ended bool) {
	for len(s.open) > 0 {
		last := len(s.open) - 1
		if s.open[last]--; s.open[last] > 0 {
			return false
		}
		s.open = s.open[:last]
	}
	s.inside = false
	return true
}

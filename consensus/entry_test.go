package consensus

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
)

// Entries of every version must decode for ever: lines are only ever added.
func TestEntryGolden(t *testing.T) {
	for _, test := range []struct {
		hex  string
		want [][]byte
	}{
		{"0100", nil},
		{"010100", [][]byte{{}}},
		{"010203616263017a", [][]byte{[]byte("abc"), []byte("z")}},
		{"0101c801" + hex.EncodeToString(bytes.Repeat([]byte{7}, 200)), [][]byte{bytes.Repeat([]byte{7}, 200)}},
	} {
		data, err := hex.DecodeString(test.hex)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeEntry(data)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s decodes to %v, %v", test.hex, got, err)
		}
		if again := encodeEntry(test.want); !bytes.Equal(again, data) {
			t.Errorf("%s is now written as %x", test.hex, again)
		}
	}
}

func TestEntryRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"empty":               "",
		"newer version":       "\x02\x00",
		"no count":            "\x01",
		"huge count":          "\x01\xff\xff\xff\xff\x0f",
		"endless count":       "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"too few commands":    "\x01\x02\x01a",
		"command cut":         "\x01\x01\x05ab",
		"bytes follow":        "\x01\x01\x01ab",
		"bytes follow a none": "\x01\x00a",
	} {
		if got, err := decodeEntry([]byte(data)); err == nil {
			t.Errorf("%s: decodes to %v", name, got)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeEntry(nil))
	f.Add(encodeEntry([][]byte{[]byte("abc"), {}, []byte("z")}))
	f.Add([]byte("\x01\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		commands, err := decodeEntry(data)
		if err != nil {
			return
		}
		// Numbers may be written longer than needed, so only the meaning is equal.
		again, err := decodeEntry(encodeEntry(commands))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(commands) {
			t.Fatalf("%x decodes to %v, then to %v, %v", data, commands, again, err)
		}
	})
}

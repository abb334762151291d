package consensus

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzEntry decodes any bytes as a log entry. What is read is written and read
// again as the same commands.
func FuzzEntry(f *testing.F) {
	for _, seed := range []string{"", "0100", "010100", "010203616263017a", "0200", "01ff", "01ffffffffffffffffff01", "010180808000", "0101ffffffff0f"} {
		data, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		commands, err := decodeEntry(data)
		if err != nil {
			return
		}
		size := 0
		for _, command := range commands {
			size += len(command)
		}
		if size > len(data) || len(commands) > len(data) {
			t.Fatalf("%d bytes hold %d commands of %d bytes", len(data), len(commands), size)
		}
		again, err := decodeEntry(encodeEntry(commands))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(commands) {
			t.Errorf("%x became %v and then %v, %v", data, commands, again, err)
		}
	})
}

// FuzzStream unpacks any bytes as a snapshot, in pieces of any size. Nothing
// leaves the folder, and what is accepted is on the disk as the header says.
func FuzzStream(f *testing.F) {
	fs := vfs.NewMem()
	s := openSnapshots(f, fs)
	id, err := takeSnapshot(s, &smallMachine{fs: fs}, 5)
	if err != nil {
		f.Fatal(err)
	}
	_, reader, err := s.Open(id)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := io.ReadAll(reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, piece := range []uint16{1, 13, 1000} {
		f.Add(whole, piece)
	}
	header := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte(streamMagic), uint32(len(text))), text...)
	}
	for _, text := range []string{`{}`, `null`, `[]`, `{"files":[{"name":"../x","size":1}]}`, `{"files":[{"name":"a","size":-1}]}`,
		`{"files":[{"name":"a","size":0},{"name":"a/b","size":0}]}`, `{"files":[{"name":"a","size":9223372036854775807}]}`} {
		f.Add(header(text), uint16(7))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		fs := vfs.NewMem()
		u := newUnpacker(fs, "outer/target")
		for part := range slices.Chunk(data, int(piece)+1) {
			if n, err := u.Write(part); err == nil && n != len(part) {
				t.Fatalf("%d of %d bytes were taken without an error", n, len(part))
			}
		}
		header, err := u.finish()
		u.abort()
		names, listErr := fs.List("outer")
		if listErr == nil && !slices.Equal(names, []string{"target"}) {
			t.Errorf("it wrote %v", names)
		}
		if err != nil {
			return
		}
		for _, file := range header.Files {
			info, err := fs.Stat(fs.PathJoin("outer/target", file.Name))
			if err != nil || info.Size() != file.Size {
				t.Errorf("%s is announced with %d bytes: %v", file.Name, file.Size, err)
			}
		}
	})
}

// testdata/snapshot.v1 is what a leader of version 0.1 sends. It must be taken
// in for ever.
func TestGoldenStream(t *testing.T) {
	const path = "testdata/snapshot.v1"
	want := goldenPinset(t, vfs.NewMem(), "pinset")
	if *update {
		if err := os.WriteFile(path, goldenStream(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewMem()
	u := newUnpacker(fs, "snapshot")
	if _, err := u.Write(stream); err != nil {
		t.Fatal(err)
	}
	header, err := u.finish()
	if err != nil || header.MachineIndex != want.Applied() {
		t.Fatalf("index %d, %v", header.MachineIndex, err)
	}
	got := openPinset(t, fs, "restored")
	if err := got.Restore("snapshot"); err != nil {
		t.Fatal(err)
	}
	if hashOf(t, got) != hashOf(t, want) || got.Applied() != want.Applied() {
		t.Error("the pinset of the old snapshot is another one")
	}
	// The next version says so, and so does this one of it.
	newer := bytes.Clone(stream)
	newer[len(streamMagic)-1]++
	if _, err := newUnpacker(vfs.NewMem(), "x").Write(newer); err == nil || err.Error() != "receive snapshot: it has version 2, and this program knows version 1: the peer that sent it runs a newer one; install the same here" {
		t.Errorf("a newer stream: %v", err)
	}
}

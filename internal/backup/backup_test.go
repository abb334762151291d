package backup_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/internal/backup"
)

var update = flag.Bool("update", false, "rewrite the golden files; read the difference before committing it")

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func hashOf(text string, i int) multihash.Multihash {
	digest, err := multihash.Sum(fmt.Append(nil, text, i), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return digest
}

func testPeer(i int) peer.ID { return peer.ID(hashOf("peer", i)) }

func testCid(i int) api.Cid { return api.NewCid(cid.NewCidV1(cid.Raw, hashOf("cid", i))) }

// testPins have one of everything that an export can carry.
func testPins() []api.Pin {
	small := func(i int) api.Pin {
		return api.Pin{Cid: testCid(i), Type: api.TypeData, MaxDepth: -1, Timestamp: epoch, Allocations: []peer.ID{testPeer(1), testPeer(2)},
			PinOptions: api.PinOptions{ReplicationFactorMin: 1, ReplicationFactorMax: 2, Mode: api.ModeRecursive, Name: fmt.Sprint("pin ", i)}}
	}
	full, all := small(1), small(2)
	full.Name, full.Mode, full.MaxDepth = "<ü & \"quotes\"\n\u2028", api.ModeDirect, 0
	full.ShardSize, full.ExpireAt = 1<<40, epoch.Add(time.Hour)
	full.Metadata, full.PinUpdate = map[string]string{"a": "1", "b": ""}, testCid(9)
	full.Origins = []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/192.0.2.1/tcp/4001/p2p/" + testPeer(3).String())}
	all.ReplicationFactorMin, all.ReplicationFactorMax, all.Allocations = -1, -1, []peer.ID{}
	all.Cid = api.NewCid(cid.NewCidV0(hashOf("cid", 2)))
	return []api.Pin{full, all, small(3)}
}

func export(t *testing.T, pins []api.Pin) []byte {
	t.Helper()
	var out bytes.Buffer
	w := backup.NewWriter(&out)
	for _, pin := range pins {
		if err := w.Write(pin); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(in []byte, rules backup.Rules) ([]api.Pin, backup.Summary, error) {
	var pins []api.Pin
	summary, err := backup.Read(bytes.NewReader(in), rules, func(_ int, pin api.Pin) error {
		pins = append(pins, pin)
		return nil
	})
	return pins, summary, err
}

// What we export today is what the golden file says, and the file, which may
// be years old by then, is read as it was meant.
func TestGoldenExport(t *testing.T) {
	const path = "testdata/export.v2.ndjson"
	got := export(t, testPins())
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the export has changed; got:\n%s", got)
	}
	old, err := os.ReadFile("testdata/export.v1.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{want, old} {
		pins, summary, err := read(data, backup.Rules{Now: epoch})
		if err != nil || summary.Pins != 3 || len(summary.Warnings) > 0 {
			t.Fatalf("%+v, %v", summary, err)
		}
		if want := testPins(); !reflect.DeepEqual(pins, want) {
			t.Errorf("got  %+v\nwant %+v", pins, want)
		}
	}
}

// testdata/ipfs-cluster-1.1.6.ndjson was written by hand in the shape of the
// incumbent's `state export`: every kind of pin, with its empty values.
func TestIncumbentExport(t *testing.T) {
	data, err := os.ReadFile("testdata/ipfs-cluster-1.1.6.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	pins, summary, err := read(data, backup.Rules{Now: epoch, Whole: true})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, pin := range pins {
		fmt.Fprintf(&got, "%s %s %s %d..%d %q on %d, %d origins, metadata %v, at %s, expires %v\n", pin.Cid, pin.Type, pin.Mode,
			pin.ReplicationFactorMin, pin.ReplicationFactorMax, pin.Name, len(pin.Allocations), len(pin.Origins), pin.Metadata,
			pin.Timestamp.Format(time.RFC3339), !pin.ExpireAt.IsZero())
	}
	want := `QmP63DkAFEnDYNjDYBpyNDfttu1fvUw99x1brscPzpqmmq pin recursive -1..-1 "hello" on 0, 1 origins, metadata map[k:v], at 2026-11-20T23:35:21Z, expires true
bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy pin direct 2..3 "" on 2, 0 origins, metadata map[], at 2026-11-20T23:35:22Z, expires false
QmWATWQ7fVPP2EFGu71UkfnqhYXDYH566qy47CnJDgvs8u pin recursive -1..-1 "sharded" on 0, 0 origins, metadata map[], at 2026-11-20T23:35:24Z, expires false
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
	if summary.Expired != 1 || summary.Shards != 2 || summary.Pins != 3 {
		t.Errorf("%+v", summary)
	}
	_, _, err = read(data, backup.Rules{Now: epoch})
	for _, text := range []string{"3 of 6 entries", "line 4: QmWATWQ7", "line 5:", "line 6:", "meta-pin", "--unshard"} {
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("without %q: %v", text, err)
		}
	}
}

func TestBadLinesAreAllNamed(t *testing.T) {
	good := string(export(t, testPins()[2:]))
	good = strings.TrimSuffix(good, "\n")
	one := testCid(1).String()
	lines := []string{
		good,
		"",
		"garbage",
		`"text"`,
		`{"cid":"x"}`,
		`{"name":"no cid"}`,
		`{"cid":"` + one + `","replication_factor_min":3,"replication_factor_max":2}`,
		`{"cid":"` + one + `","type":"bad-type"}`,
		`{"cid":"` + one + `","mode":"deep"}`,
		`{"cid":"` + one + `","allocations":["x"]}`,
		`{"cid":"` + one + `","name":"` + strings.Repeat("x", 2<<20) + `"}`,
		`{"cid":"` + one + `","expire_at":"tomorrow"}`,
		good[:len(good)-10],
	}
	pins, summary, err := read([]byte(strings.Join(lines, "\n")), backup.Rules{})
	if len(pins) != 1 || summary.Pins != 1 {
		t.Errorf("%d pins were handed on", len(pins))
	}
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "11 of 12 entries") {
		t.Fatalf("got %v", err)
	}
	for i := range lines {
		if named := strings.Contains(err.Error(), fmt.Sprintf("line %d:", i+1)); named != (i > 1) {
			t.Errorf("line %d is named: %v\n%.100s", i+1, named, lines[i])
		}
	}
	if _, _, err := read([]byte(strings.Repeat("x\n", 500)), backup.Rules{}); strings.Count(err.Error(), "line ") != 20 || !strings.Contains(err.Error(), "and 480 more") {
		t.Errorf("500 bad lines: %v", err)
	}
}

func TestLaterVersionsAreReadAsFarAsKnown(t *testing.T) {
	line := `{"cid":"` + testCid(1).String() + `","colour":"red","max_depth":3}`
	pins, summary, err := read([]byte(line+"\n"+strings.Replace(line, testCid(1).String(), testCid(2).String(), 1)), backup.Rules{})
	if err != nil || len(pins) != 2 || pins[0].Mode != api.ModeRecursive || pins[0].MaxDepth != -1 {
		t.Fatalf("%+v, %v", pins, err)
	}
	if len(summary.Warnings) != 2 || !strings.Contains(strings.Join(summary.Warnings, ";"), `"colour"`) {
		t.Errorf("warnings %q", summary.Warnings)
	}
}

func TestChangesAreChecked(t *testing.T) {
	in := export(t, testPins()[2:])
	_, _, err := read(in, backup.Rules{Change: func(pin *api.Pin) { pin.ReplicationFactorMin = 7 }})
	if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "line 1: replication factor min 7") {
		t.Errorf("got %v", err)
	}
}

// A compressed file that was cut off or changed is refused, wherever.
func TestDamagedFilesAreRefused(t *testing.T) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(export(t, testPins())); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	whole := packed.Bytes()
	if pins, _, err := read(whole, backup.Rules{}); err != nil || len(pins) != 3 {
		t.Fatalf("%d pins, %v", len(pins), err)
	}
	for n := 2; n < len(whole); n++ {
		if _, _, err := read(whole[:n], backup.Rules{}); !errors.Is(err, api.ErrInvalid) {
			t.Fatalf("cut off after %d bytes: %v", n, err)
		}
	}
	whole[len(whole)-6] ^= 1 // of the checksum
	if _, _, err := read(whole, backup.Rules{}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("with another checksum: %v", err)
	}
}

// No single bit that a disk reads wrong makes other pins of a compressed file.
func TestEveryBitOfACompressedFile(t *testing.T) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(export(t, testPins())); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	want, _, err := read(packed.Bytes(), backup.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * packed.Len() {
		flipped := bytes.Clone(packed.Bytes())
		flipped[i/8] ^= 1 << (i % 8)
		if got, _, err := read(flipped, backup.Rules{}); err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("bit %d: %d pins without an error", i, len(got))
		}
	}
}

// Whatever write fails, and whenever the power does, the name holds the old
// file or the new one.
func TestWriteFileIsAllOrNothing(t *testing.T) {
	for _, name := range []string{"folder/pins", "folder/pins.gz"} {
		for at, done := 0, false; !done; at++ {
			mem := vfs.NewCrashableMem()
			if err := mem.MkdirAll("folder", 0o700); err != nil {
				t.Fatal(err)
			}
			write := func(fs vfs.FS, pins []api.Pin) error {
				return backup.WriteFile(fs, name, func(out io.Writer) error { _, err := out.Write(export(t, pins)); return err })
			}
			root, err := mem.OpenDir("/")
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(root.Sync(), root.Close(), write(mem, testPins()[:1])); err != nil {
				t.Fatal(err)
			}
			left := at
			failing := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
					return nil
				}
				if left--; left < 0 {
					return errorfs.ErrInjected
				}
				return nil
			}))
			err = write(failing, testPins())
			done = left >= 0
			if done == (err != nil) {
				t.Fatalf("write %d failed: %v", at, err)
			}
			for _, fs := range []vfs.FS{mem, mem.CrashClone(vfs.CrashCloneCfg{})} {
				file, err := fs.Open(name)
				if err != nil {
					t.Fatalf("write %d failed: %v", at, err)
				}
				data, err := io.ReadAll(file)
				if err = errors.Join(err, file.Close()); err != nil {
					t.Fatal(err)
				}
				pins, _, err := read(data, backup.Rules{})
				if err != nil || len(pins) != 1 && len(pins) != 3 || done && len(pins) != 3 {
					t.Fatalf("write %d failed: the file holds %d pins, %v", at, len(pins), err)
				}
			}
		}
	}
}

// An export is read however its JSON is laid out: as it is written, as
// 'cluster-ctl --enc json pin ls' prints it, as one array, in one line. Bad
// entries spoil no other, and an array that was cut off is noticed.
func TestEveryLayoutOfJSON(t *testing.T) {
	pins := testPins()
	lines := export(t, pins)
	var all []json.RawMessage
	var pretty bytes.Buffer
	for line := range bytes.Lines(lines) {
		all = append(all, bytes.TrimSpace(line))
		if err := json.Indent(&pretty, line, "", "    "); err != nil {
			t.Fatal(err)
		}
	}
	array, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	wide, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := read(lines, backup.Rules{})
	if err != nil || len(want) != len(pins) {
		t.Fatal(len(want), err)
	}
	for name, data := range map[string][]byte{
		"lines": lines, "pretty": pretty.Bytes(), "array in a line": array, "pretty array": wide,
		"one line": bytes.ReplaceAll(lines, []byte("\n"), []byte(" ")), "array of lines": fmt.Appendf(nil, "[\n%s]\n", bytes.ReplaceAll(bytes.TrimSpace(lines), []byte("}\n{"), []byte("},\n{"))),
		"with carriage returns": bytes.ReplaceAll(pretty.Bytes(), []byte("\n"), []byte("\r\n")),
	} {
		got, _, err := read(data, backup.Rules{})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d pins, %v", name, len(got), err)
		}
	}
	for name, data := range map[string][]byte{
		"array cut between elements": array[:bytes.Index(array, []byte("},{"))+1],
		"array cut in an element":    array[:len(array)-20],
		"pretty, cut":                pretty.Bytes()[:pretty.Len()-20],
		"an object never ends":       append([]byte("{\"cid\": [\n"), lines...),
		"a string never ends":        append([]byte("{\"cid\": \"\n"), lines...),
	} {
		got, _, err := read(data, backup.Rules{})
		if !errors.Is(err, api.ErrInvalid) || len(got) == 0 {
			t.Errorf("%s: %d pins, %v", name, len(got), err)
		}
		if strings.HasSuffix(name, "never ends") && len(got) != len(pins) {
			t.Errorf("%s: %d pins were read behind it", name, len(got))
		}
	}
}

// An export that was cut off is refused wherever it was cut, also at the end of
// a line, unless it is meant to be a part; so is one from which lines are missing.
func TestCutExportIsRefused(t *testing.T) {
	whole := export(t, testPins())
	lines := bytes.SplitAfter(whole, []byte("\n"))[:3]
	join := func(lines ...[]byte) []byte { return bytes.Join(lines, nil) }
	mark := []byte(`{"end":true}` + "\n")
	failed := []byte(`{"end":true,"error":{"code":500,"message":"it broke","reason":"internal"}}` + "\n")
	foreign := bytes.ReplaceAll(lines[0], []byte(`,"export_begins":true`), nil) // as the incumbent writes it
	for name, test := range map[string]struct {
		data []byte
		pins int    // without --part
		part int    // with it
		want string // of the error; "": none
	}{
		"whole":                       {whole, 3, 3, ""},
		"nothing":                     {nil, 0, 0, ""},
		"one pin":                     {export(t, testPins()[:1]), 1, 1, ""},
		"cut after a line":            {join(lines[0], lines[1]), 0, 2, "cut off"},
		"cut after the first":         {lines[0], 0, 1, "cut off"},
		"a line in the middle is out": {join(lines[0], lines[2]), 0, 2, "had 3 pins when it was written, and here are 2"},
		"the first is out":            {join(lines[1], lines[2]), 2, 2, ""},
		"two, one behind the other":   {join(whole, whole), 6, 6, ""},
		"two, the first is cut":       {join(lines[0], lines[1], whole), 0, 5, "line 3: the export does not end"},
		"what states nothing":         {foreign, 1, 1, ""},
		"a list that states its end":  {join(foreign, mark), 1, 1, ""},
		"a list that failed":          {join(foreign, failed), 0, 0, "it broke"},
	} {
		for _, part := range []bool{false, true} {
			pins, summary, err := read(test.data, backup.Rules{Part: part})
			wrong, n := test.want, test.pins
			if part && name != "a list that failed" {
				wrong, n = "", test.part
			}
			if wrong != "" {
				if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), wrong) {
					t.Errorf("%s, part %t: %v", name, part, err)
				}
			} else if err != nil || len(pins) != n || len(summary.Warnings) > 0 {
				t.Errorf("%s, part %t: %d pins, %v, %v", name, part, len(pins), err, summary.Warnings)
			}
		}
	}
}

// What cannot be a pin is handed on as it came, and what is no object is not.
func TestSkipped(t *testing.T) {
	lines := bytes.SplitAfter(export(t, testPins()), []byte("\n"))[:3]
	long := fmt.Sprintf(`{"cid":%q, "name":%q}`, testCid(7), strings.Repeat("x", api.MaxNameBytes+1))
	empty := fmt.Sprintf("{\n  \"cid\": %q,\n  \"metadata\": {\"\": \"x\"}\n}", testCid(8))
	none := `{"name":"no cid"}`
	data := bytes.Join([][]byte{lines[0], []byte(long + "\n" + empty + "\n"), lines[1], []byte(none + "\n"), bytes.Replace(lines[2], []byte(`"export_ends":3`), []byte(`"export_ends":6`), 1)}, nil)
	var skipped []string
	rules := backup.Rules{Skip: func(text []byte) error { skipped = append(skipped, string(text)); return nil }}
	pins, summary, err := read(data, rules)
	if err != nil || len(pins) != 3 || summary.Skipped != 3 || !slices.Equal(skipped, []string{long, empty, none}) {
		t.Errorf("%d pins, %+v, %v, skipped %q", len(pins), summary, err, skipped)
	}
	if _, summary, err := read(data, backup.Rules{}); summary.Skipped != 3 || !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "line 2: ") {
		t.Errorf("refused: %+v, %v", summary, err)
	}
	for _, damage := range []string{"x\n", `{"cid":`, strings.Repeat("x", 2<<20)} {
		if _, _, err := read([]byte(string(data)+damage), rules); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%.20q is passed over: %v", damage, err)
		}
	}
	broke := errors.New("the disk is full")
	if _, _, err := read(data, backup.Rules{Skip: func([]byte) error { return broke }}); !errors.Is(err, broke) {
		t.Errorf("what is skipped cannot be written: %v", err)
	}
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/client"
)

// hostile is what a name must not do to a terminal: end the line, go back in
// it, clear the screen, turn the direction, and break UTF-8.
const hostile = "a\n12D3 | forged\r\x1b[2J\u009b31m\u202egnp.exe\u2066\u200e\ufeff\x7f\U000e0041\xff\tz"

// printers writes everything that cluster-ctl shows with s wherever somebody
// else chose the text.
func printers(s string) map[string]func(io.Writer) {
	peer := mustPeer(fakePeers[0].id)
	id := newFakeCluster().id(0)
	id.PeerName, id.IPFS.Addresses = s, []multiaddr.Multiaddr{multiaddr.StringCast("/unix/" + strings.ToValidUTF8(strings.ReplaceAll(s, "\n", ""), ""))}
	failed := id
	failed.Error = s
	broken := id
	broken.IPFS.Error = s
	pin := api.Pin{PinOptions: api.PinOptions{Name: s}, Type: api.TypeData}
	refused := api.Errorf(api.CodeInvalid, "%s", s)
	return map[string]func(io.Writer){
		"peer":        func(w io.Writer) { textID(w, id) },
		"failed peer": func(w io.Writer) { textID(w, failed) },
		"broken node": func(w io.Writer) { textID(w, broken) },
		"pin":         func(w io.Writer) { textPin(w, pin) },
		"change":      func(w io.Writer) { textChange(w, api.PinChange{Pin: &pin}) },
		"alert":       func(w io.Writer) { textAlert(w, api.Alert{Name: s, Peer: peer, PeerName: s, Message: s}) },
		"status": func(w io.Writer) {
			textStatus(w, api.GlobalPinInfo{Name: s, PeerMap: map[string]api.PinInfoShort{s: {PeerName: s, Error: s}}})
		},
		"unnamed peer": func(w io.Writer) { textStatus(w, api.GlobalPinInfo{PeerMap: map[string]api.PinInfoShort{s: {}}}) },
		"collection": func(w io.Writer) {
			textGC(w, api.GlobalRepoGC{PeerMap: map[string]api.RepoGC{s: {PeerName: s, Error: s, Keys: []api.RepoGCKey{{Error: s}}}}})
		},
		"added":           func(w io.Writer) { (&adding{}).text(w, api.AddedOutput{Name: s}) },
		"peer's error":    func(w io.Writer) { (&program{err: w}).report(&api.Error{Code: api.CodeInvalid, Message: s}) },
		"failure in JSON": func(w io.Writer) { (&program{err: w, json: true}).report(refused) },
		"line in JSON": func(w io.Writer) {
			data, _ := json.Marshal(pin)
			out := bufio.NewWriter(w)
			_ = (&bulkRun{program: &program{json: true}}).show(client.BulkResult{JSON: data}, &progress{}, out)
			_ = out.Flush()
		},
		"failed line": func(w io.Writer) {
			_ = (&bulkRun{program: &program{err: w}}).show(client.BulkResult{Err: refused}, &progress{}, nil)
		},
		"JSON": func(w io.Writer) { _ = show(&program{out: w, json: true}, pin, nil) },
	}
}

// What others chose cannot make lines, nor act on a terminal.
func TestNothingRawOnATerminal(t *testing.T) {
	plain := printers("plain")
	for what, print := range printers(hostile) {
		var got, want bytes.Buffer
		print(&got)
		plain[what](&want)
		if strings.Count(got.String(), "\n") != strings.Count(want.String(), "\n") {
			t.Errorf("%s has other lines:\n%s", what, got.String())
		}
		for _, r := range got.String() {
			if r != '\n' && !unicode.IsPrint(r) || r == unicode.ReplacementChar && !strings.Contains(what, "JSON") {
				t.Errorf("%s: %U is printed as it is: %q", what, r, got.String())
			}
		}
		if !strings.Contains(want.String(), "plain") || strings.Contains(want.String(), `plain\`) {
			t.Errorf("%s: %s", what, want.String())
		}
	}
}

// JSON means the same as before it was made printable.
func TestJSONIsUnchangedForParsers(t *testing.T) {
	var out bytes.Buffer
	pin := api.Pin{PinOptions: api.PinOptions{Name: strings.ToValidUTF8(hostile, "�") + " naïve 日本 🙂 \\u202e"}}
	if err := writeJSON(&out, pin); err != nil {
		t.Fatal(err)
	}
	var got api.Pin
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Name != pin.Name {
		t.Errorf("%q, %v", got.Name, err)
	}
	if !strings.Contains(out.String(), "naïve 日本 🙂") {
		t.Error("what can be read is escaped: " + out.String())
	}
	if data := []byte(`{"a":"b"}`); &escapeJSON(data)[0] != &data[0] {
		t.Error("copied for nothing")
	}
	if name("naïve 日本 🙂") != "naïve 日本 🙂" || name(`"a"`) != `"\"a\""` {
		t.Error("names that can be read stay as they are, but for those that look quoted")
	}
	if got := sentences(errors.Join(errors.New("one"), errors.New("two\x1b")).Error()); got != "one\n  two\\x1b" {
		t.Errorf("%q", got)
	}
}

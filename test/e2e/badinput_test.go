//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

const someCid = "bafkreigaknpexyvxt76zgkitavbwx6ejgfheup5oybpm77f3pxzrvwpfdi"

type badRequest struct {
	name, method, target string
	header, body         string
	status               int
	reason               api.Code
	says                 string
}

var badRequests = []badRequest{
	{"a CID that is none", "POST", "/pins/notacid", "", "", 400, "invalid", "notacid"},
	{"a CID with a letter changed", "POST", "/pins/" + someCid[:20] + "!" + someCid[21:], "", "", 400, "invalid", "CID"},
	{"unpin what is no CID", "DELETE", "/pins/notacid", "", "", 400, "invalid", "notacid"},
	{"unpin what is not pinned", "DELETE", "/pins/" + someCid, "", "", 404, "not_found", ""},
	{"status of what is no CID", "GET", "/pins/notacid", "", "", 400, "invalid", "notacid"},
	{"allocation of what is not pinned", "GET", "/allocations/" + someCid, "", "", 404, "not_found", ""},
	{"allocation of what is no CID", "GET", "/allocations/notacid", "", "", 400, "invalid", "notacid"},
	{"a path below what is no CID", "POST", "/pins/ipfs/notacid/x", "", "", 400, "invalid", ""},
	{"a namespace that is none", "POST", "/pins/ipxs/" + someCid, "", "", 404, "not_found", ""},
	{"rmin over rmax", "POST", "/pins/" + someCid + "?replication-min=3&replication-max=2", "", "", 400, "invalid", "min 3"},
	{"a factor of -2", "POST", "/pins/" + someCid + "?replication-min=-2&replication-max=-2", "", "", 400, "invalid", "-2"},
	{"-1 for one only", "POST", "/pins/" + someCid + "?replication-min=-1&replication-max=2", "", "", 400, "invalid", "-1"},
	{"a factor that is no number", "POST", "/pins/" + someCid + "?replication-min=two", "", "", 400, "invalid", "replication-min"},
	{"more replicas than peers", "POST", "/pins/" + someCid + "?replication-min=3&replication-max=3", "", "", 409, "not_enough_peers", "3"},
	{"a mode that is none", "POST", "/pins/" + someCid + "?mode=shallow", "", "", 400, "invalid", "shallow"},
	{"a user allocation that is no peer", "POST", "/pins/" + someCid + "?user-allocations=peer0", "", "", 400, "invalid", "peer0"},
	{"an expiry in the past", "POST", "/pins/" + someCid + "?expire-at=2001-01-01T00:00:00Z", "", "", 400, "invalid", "future"},
	{"an update of what is not pinned", "POST", "/pins/" + someCid + "?pin-update=" + someCid, "", "", 404, "not_found", "pinset"},
	{"a name too long", "POST", "/pins/" + someCid + "?name=" + strings.Repeat("x", 2000), "", "", 400, "invalid", "name"},
	{"an origin that is none", "POST", "/pins/" + someCid + "?origins=here", "", "", 400, "invalid", "origin"},
	{"a status that is none", "GET", "/pins?filter=done", "", "", 400, "invalid", "done"},
	{"a type that is none", "GET", "/allocations?filter=pins", "", "", 400, "invalid", "pins"},
	{"an add that is not multipart", "POST", "/add", "text/plain", "hello", 400, "invalid", "multipart"},
	{"an add without a boundary", "POST", "/add", "multipart/form-data", "hello", 400, "invalid", "multipart"},
	{"an add without parts", "POST", "/add", "multipart/form-data; boundary=x", "--x--\r\n", 400, "invalid", ""},
	{"an add that is cut off", "POST", "/add?stream-channels=false", "multipart/form-data; boundary=x", addBody[:len(addBody)-6], 400, "invalid", ""},
	{"an add with a chunker that is none", "POST", "/add?chunker=knife", "multipart/form-data; boundary=x", addBody, 400, "invalid", "knife"},
	{"an add with a hash that is none", "POST", "/add?hash=md17", "multipart/form-data; boundary=x", addBody, 400, "invalid", "md17"},
	{"an add with a layout that is none", "POST", "/add?layout=flat", "multipart/form-data; boundary=x", addBody, 400, "invalid", "layout"},
	{"an add of what is no CAR", "POST", "/add?format=car", "multipart/form-data; boundary=x", addBody, 400, "invalid", ""},
	{"an add with more replicas than peers", "POST", "/add?replication-min=5&replication-max=5", "multipart/form-data; boundary=x", addBody, 409, "not_enough_peers", "5"},
	{"removal of what is no peer", "DELETE", "/peers/peer0", "", "", 400, "invalid", "peer0"},
	{"removal of a stranger", "DELETE", "/peers/12D3KooWEwHpUvuCFaAkzi72it2UgiegkVkiBhPZyoZLvck7amTh", "", "", 404, "not_found", ""},
	{"a route that is none", "GET", "/pinz", "", "", 404, "not_found", ""},
	{"a method that is none", "PUT", "/pins/" + someCid, "", "", 405, "", ""},
	{"the name of another host", "GET", "/id", "Host: evil.example", "", 403, "forbidden", "evil.example"},
	{"the page of another site", "POST", "/pins/" + someCid, "Origin: http://evil.example", "", 403, "forbidden", "evil.example"},
}

const addBody = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\nhello\r\n--x--\r\n"

// Every request that cannot be carried out gets a JSON error that says what is
// wrong, with the right status, and changes nothing.
func TestBadInput(t *testing.T) {
	c := newCluster(t, 2, nil)
	p := c.peers[1] // forwards, unless it happens to lead
	if _, err := p.rest.Pin(t.Context(), rawCid(t, 9, 9), api.PinOptions{Name: "stays"}); err != nil {
		t.Fatal(err)
	}
	before := c.samePinset(startTime)
	for _, test := range badRequests {
		t.Run(test.name, func(t *testing.T) { p.refuses(t, test) })
	}
	if after := c.samePinset(startTime); !maps.Equal(before, after) {
		t.Errorf("bad requests changed the pinset from %v to %v", before, after)
	}
	if n := len(c.members()); n != 2 {
		t.Errorf("bad requests left %d members", n)
	}
	t.Run("cluster-ctl", func(t *testing.T) { badCommands(t, p) })
	if after := c.samePinset(startTime); !maps.Equal(before, after) {
		t.Errorf("bad commands changed the pinset from %v to %v", before, after)
	}
	c.noPanic()
}

func (p *testPeer) refuses(t *testing.T, test badRequest) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, test.method, fmt.Sprintf("http://127.0.0.1:%d%s", p.ports.rest, test.target), strings.NewReader(test.body))
	if err != nil {
		t.Fatal(err)
	}
	if name, value, ok := strings.Cut(test.header, ": "); ok && name == "Host" {
		request.Host = value
	} else if ok {
		request.Header.Set(name, value)
	} else if test.header != "" {
		request.Header.Set("Content-Type", test.header)
	}
	response, err := http.DefaultTransport.RoundTrip(request) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != test.status {
		t.Fatalf("%s, not %d: %s", response.Status, test.status, body)
	}
	var answer struct {
		Code    int
		Message string
		Reason  api.Code
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("the body is no JSON error: %q %v", body, err)
	}
	if answer.Code != test.status || answer.Message == "" || test.reason != "" && answer.Reason != test.reason || !strings.Contains(answer.Message, test.says) {
		t.Errorf("reason %s and %q wanted: %s", test.reason, test.says, body)
	}
}

func badCommands(t *testing.T, p *testPeer) {
	for _, test := range []struct {
		args string
		exit int
		says string
	}{
		{"pin add notacid", 1, "notacid"},
		{"pin add --rmin 3 --rmax 2 " + someCid, 1, "min 3"},
		{"pin add --rmin 3 --rmax 3 " + someCid, 2, "3"},
		{"pin add --mode shallow " + someCid, 1, "shallow"},
		{"pin add --colour blue " + someCid, 1, "colour"},
		{"pin rm " + someCid, 2, "404"},
		{"pin update " + someCid + " " + someCid, 2, "pinset"},
		{"peers rm peer0", 1, "peer0"},
		{"peers rm 12D3KooWEwHpUvuCFaAkzi72it2UgiegkVkiBhPZyoZLvck7amTh", 2, "404"},
		{"add /no/such/file", 1, "/no/such/file"},
		{"add /tmp", 1, "add -r"},
		{"add --rmin 5 --rmax 5 /etc/hostname", 2, "5"},
		{"add --hash md17 /etc/hostname", 2, "md17"},
		{"status --filter done", 1, "done"},
		{"pinn ls", 3, "pinn"},
		{"--host /ip4/127.0.0.1/tcp/1 id", 1, "127.0.0.1"},
		{"--host nonsense id", 1, "nonsense"},
	} {
		out, problems, err := p.ctl(time.Minute, strings.Fields(test.args)...)
		if exitCode(err) != test.exit || !strings.Contains(problems, test.says) || strings.TrimSpace(out) != "" {
			t.Errorf("cluster-ctl %s: exit %d, not %d\nout: %s\nerr: %s", test.args, exitCode(err), test.exit, out, problems)
		}
	}
}

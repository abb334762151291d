package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	cidText  = "QmP63DkAFEnDYNjDYBpyNDfttu1fvUw99x1brscPzpqmmq"
	peerText = "12D3KooWRvGuvedTvYHPu2Wzqgk4wvRStwoguTFmBid1g2oLtFKP"
)

func TestCodesAndStatuses(t *testing.T) {
	seen := map[int]Code{}
	for _, row := range statusOf {
		if got := row.code.HTTPStatus(); got != row.status {
			t.Errorf("%s is %d, want %d", row.code, got, row.status)
		}
		if _, taken := seen[row.status]; !taken {
			seen[row.status] = row.code
		}
	}
	for status, code := range seen {
		if got := CodeOfHTTPStatus(status); got != code {
			t.Errorf("%d means %s, want %s", status, got, code)
		}
	}
	if CodeOfHTTPStatus(418) != CodeInvalid || CodeOfHTTPStatus(599) != CodeInternal || Code("new").HTTPStatus() != 500 {
		t.Error("an unknown status or code is not taken for the nearest known one")
	}
}

func TestErrorsKeepCodeAndCause(t *testing.T) {
	err := fmt.Errorf("pin: %w", Errorf(CodeNoSpace, "disk: %w", io.ErrShortWrite))
	if CodeOf(err) != CodeNoSpace || !errors.Is(err, ErrNoSpace) || !errors.Is(err, io.ErrShortWrite) || errors.Is(err, ErrNotFound) {
		t.Errorf("got %v with code %s", err, CodeOf(err))
	}
	sent := AsError(err)
	if sent.Code != CodeNoSpace || sent.Message != err.Error() {
		t.Errorf("sent as %+v", sent)
	}
	data, _ := json.Marshal(sent)
	var received Error
	if json.Unmarshal(data, &received) != nil || !errors.Is(&received, ErrNoSpace) {
		t.Errorf("received %+v of %s", received, data)
	}
	for err, want := range map[error]Code{nil: "", io.EOF: CodeInternal, context.Canceled: CodeUnavailable, context.DeadlineExceeded: CodeUnavailable} {
		if got := CodeOf(err); got != want {
			t.Errorf("CodeOf(%v) is %q", err, got)
		}
	}
	if AsError(nil) != nil {
		t.Error("no error became one")
	}
}

// The incumbent's JSON of a pin, as its GET /allocations prints it.
const incumbentPin = `{"replication_factor_min":-1,"replication_factor_max":-1,"name":"hello","mode":"recursive","shard_size":0,
 "user_allocations":null,"expire_at":"2026-11-21T00:35:21Z","metadata":{"k":"v"},"pin_update":null,
 "origins":["/ip4/1.2.3.4/tcp/1/p2p/` + peerText + `"],
 "cid":"` + cidText + `","type":"pin","allocations":[],"max_depth":-1,"reference":null,
 "timestamp":"2026-11-20T23:35:21Z"}`

func TestPinJSON(t *testing.T) {
	var pin Pin
	if err := json.Unmarshal([]byte(incumbentPin), &pin); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(pin)
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := errors.Join(json.Unmarshal(data, &got), json.Unmarshal([]byte(incumbentPin), &want)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if !pin.IsEverywhere() || pin.Mode != ModeRecursive || !pin.Expired(pin.ExpireAt) || pin.Expired(pin.ExpireAt.Add(-1)) {
		t.Errorf("read as %+v", pin)
	}
	var direct Pin
	if err := json.Unmarshal([]byte(`{"cid":"`+cidText+`","max_depth":0}`), &direct); err != nil || direct.Mode != ModeDirect || direct.Type != TypeData {
		t.Errorf("a pin of depth 0 was read as %+v, %v", direct, err)
	}
	for _, bad := range []string{`{"cid":"x"}`, `{"cid":7}`, `{"origins":["/ip4/1.2.3.4/tcp/1"]}`, `{"allocations":["x"]}`} {
		if err := json.Unmarshal([]byte(bad), &pin); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func TestPinOptionsAreChecked(t *testing.T) {
	many := map[string]string{}
	for i := range MaxMetadataKeys + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, o := range map[string]PinOptions{
		"mode":           {Mode: "deep"},
		"min over max":   {ReplicationFactorMin: 3, ReplicationFactorMax: 2},
		"half of -1":     {ReplicationFactorMin: -1, ReplicationFactorMax: 2},
		"below -1":       {ReplicationFactorMin: -2},
		"name":           {Name: strings.Repeat("x", MaxNameBytes+1)},
		"metadata keys":  {Metadata: many},
		"metadata bytes": {Metadata: map[string]string{"k": strings.Repeat("x", MaxMetadataBytes)}},
		"empty key":      {Metadata: map[string]string{"": "x"}},
	} {
		if err := o.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (PinOptions{ReplicationFactorMin: 2}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestTrackerStatus(t *testing.T) {
	for _, row := range statusNames {
		data, err := json.Marshal(row.status)
		var back TrackerStatus
		if err != nil || json.Unmarshal(data, &back) != nil || back != row.status {
			t.Errorf("%s became %s and then %d", row.name, data, back)
		}
	}
	filter, err := ParseTrackerStatus("pinned, queued")
	if err != nil || !StatusPinQueued.Match(filter) || StatusPinning.Match(filter) || filter.String() != "pinned,pin_queued,unpin_queued" {
		t.Errorf("filter %s, %v", filter, err)
	}
	if !StatusRemote.Match(StatusUndefined) {
		t.Error("no filter does not select everything")
	}
	for _, bad := range []string{"zzz", "pinned,zzz", "undefined"} {
		if _, err := ParseTrackerStatus(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestGlobalPinInfoJSON(t *testing.T) {
	text := `{"cid":"` + cidText + `","name":"bad","allocations":[],"origins":[],"created":"2026-11-20T23:35:26Z","metadata":null,
 "peer_map":{"` + peerText + `":{"peername":"peerA","ipfs_peer_id":"` + peerText + `",
 "ipfs_peer_addresses":["/ip4/203.0.113.7/tcp/4001/p2p/` + peerText + `"],"status":"pin_error","timestamp":"2026-11-20T23:35:26.033Z",
 "error":"x","attempt_count":1,"priority_pin":true}}}`
	var info GlobalPinInfo
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := errors.Join(json.Unmarshal(data, &got), json.Unmarshal([]byte(text), &want)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if created := info.Created; !created.Equal(time.Date(2026, 11, 20, 23, 35, 26, 0, time.UTC)) {
		t.Errorf("created %s", created)
	}
}

// A line that is read without JSON means what it means with a space in it.
func TestBulkLineOfACidAlone(t *testing.T) {
	const v0, v1 = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
	for _, data := range []string{
		`{"cid":"` + v0 + `"}`, `{"cid":"` + v1 + `"}`, `{"cid":"` + v1 + `/a/b"}`, `{"cid":"` + v1[:20] + `"}`, `{"cid":"x"}`,
		`{"cid":""}`, `{"cid":"}`, `{"cid":"` + v1, `{"cid":"` + v1 + `\u0041"}`, `{"cid":"` + v1 + `","unpin":"` + v0 + `"}`,
		`{"cid":"` + v1 + `","name":"a"}`,
	} {
		var direct, spaced BulkLine
		err, want := direct.UnmarshalJSON([]byte(data)), spaced.UnmarshalJSON([]byte("{ "+data[1:]))
		if fmt.Sprint(err) != fmt.Sprint(want) || !reflect.DeepEqual(direct, spaced) {
			t.Errorf("%s: %+v, %v; with a space %+v, %v", data, direct, err, spaced, want)
		}
	}
}

package restapi_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"

	"holdfast/api"
	"holdfast/restapi/fake"
)

// Names in paths may have any character, and CIDs any base.
func TestPathsAsTheyWereSent(t *testing.T) {
	var resolved string
	var asked api.Cid
	service := &fake.Service{
		OnResolve:    func(path string) (api.Cid, error) { resolved = path; return cidA, nil },
		OnPin:        func(r api.PinRequest) (api.PinResult, error) { asked = r.Cid; return api.PinResult{}, nil },
		OnUnpin:      func(r api.UnpinRequest) (api.PinResult, error) { asked = r.Cid; return api.PinResult{}, nil },
		OnAllocation: func(c api.Cid) (api.Pin, error) { asked = c; return api.Pin{Cid: c}, nil },
		OnStatus:     func(c api.Cid, _ bool) (api.GlobalPinInfo, error) { asked = c; return api.GlobalPinInfo{Cid: c}, nil },
		OnRecover:    func(c api.Cid, _ bool) (api.GlobalPinInfo, error) { asked = c; return api.GlobalPinInfo{Cid: c}, nil },
	}
	for _, name := range []string{"a\nb", "a\r\n", "ü", "a%2Fb", "a b?c#d", "..", "{x}", "\x1b"} {
		for _, method := range []string{"POST", "DELETE"} {
			resolved = ""
			resp, body := ask(t, service, method, "/pins/ipfs/"+cidA.String()+"/"+url.PathEscape(name)+"/z", "", "")
			if want := "/ipfs/" + cidA.String() + "/" + name + "/z"; resp.StatusCode != 200 || resolved != want {
				t.Errorf("%s %q: %d %s, resolved %q", method, name, resp.StatusCode, body, resolved)
			}
		}
	}
	// A CID of which the base64 text has a slash.
	var text string
	var slashed cid.Cid
	for i := byte(0); !strings.Contains(text, "/"); i++ {
		hash, err := cid.V1Builder{Codec: cid.Raw, MhType: 0x12}.Sum([]byte{i})
		if err != nil {
			t.Fatal(err)
		}
		if text, err = hash.StringOfBase(multibase.Base64); err != nil {
			t.Fatal(err)
		}
		slashed = hash
	}
	for _, request := range []string{"GET /pins/", "GET /allocations/", "POST /pins/", "DELETE /pins/", "POST /pins/ipfs/"} {
		asked = api.Cid{}
		method, path, _ := strings.Cut(request, " ")
		resp, body := ask(t, service, method, path+url.PathEscape(text), "", "")
		if resp.StatusCode != 200 || asked.Cid != slashed {
			t.Errorf("%s%s: %d %s", request, text, resp.StatusCode, body)
		}
	}
	if resp, _ := ask(t, service, "POST", "/pins/"+url.PathEscape(text)+"/recover", "", ""); resp.StatusCode != 200 || asked.Cid != slashed {
		t.Errorf("recover: %d", resp.StatusCode)
	}
}

// 'pin ls CID | grep CID' must not find what is not pinned.
func TestNotPinnedDoesNotRepeatTheCID(t *testing.T) {
	missing := api.Errorf(api.CodeNotFound, "%s is not pinned", cidA)
	service := &fake.Service{
		OnAllocation: func(api.Cid) (api.Pin, error) { return api.Pin{}, missing },
		OnUnpin:      func(api.UnpinRequest) (api.PinResult, error) { return api.PinResult{}, missing },
	}
	for _, request := range []string{"GET /allocations/", "DELETE /pins/", "DELETE /pins/ipfs/"} {
		method, path, _ := strings.Cut(request, " ")
		resp, body := ask(t, service, method, path+cidA.String(), "", "")
		if want := `{"code":404,"message":"pin is not part of the pinset","reason":"not_found"}` + "\n"; resp.StatusCode != 404 || body != want {
			t.Errorf("%s: %d %s", request, resp.StatusCode, body)
		}
	}
}

package state_test

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/state"
)

// FuzzApply applies any bytes as a command. It must fail and change nothing, or
// leave a pinset that can be read, checkpointed and applied to.
func FuzzApply(f *testing.F) {
	for _, c := range goldenCommands() {
		f.Add(c.command.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fs := vfs.NewMem()
		p := open(t, fs, "pinset")
		apply(t, p, 1, state.InitClusterCommand{ClusterID: "c", Member: testMember(1)}.Encode(),
			state.PinCommand{Pin: testPin(1, testPeer(1)), At: epoch}.Encode())
		before := mustHash(t, p)
		if _, err := p.Apply(12, [][]byte{data}); err != nil {
			if p.Applied() != 1 || mustHash(t, p) != before {
				t.Error("a command that failed changed the pinset")
			}
			return
		}
		after := mustHash(t, p)
		for _, pin := range list(t, p, api.PinFilter{}) {
			if got, found, err := p.Get(pin.Cid.Cid); err != nil || !found || pinText(got) != pinText(pin) {
				t.Errorf("get %s: %v, %v", pin.Cid, found, err)
			}
		}
		list(t, p, api.PinFilter{Peer: testPeer(1)})
		for pin := range p.Pins(api.PinFilter{}) {
			for _, filter := range []api.PinFilter{{Name: pin.Name}, {NamePrefix: pin.Name}, {Meta: pin.Metadata},
				{CreatedAfter: pin.Timestamp.Add(-1), CreatedBefore: pin.Timestamp.Add(1)}} {
				if !slices.ContainsFunc(list(t, p, filter), func(got api.Pin) bool { return got.Cid == pin.Cid }) {
					t.Errorf("%+v does not select %+v", filter, pin)
				}
			}
		}
		checkClean(t, p)
		if _, err := p.Expired(epoch, 10); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		p = open(t, fs, "pinset")
		if p.Applied() != 12 || mustHash(t, p) != after {
			t.Error("the pinset differs after opening it again")
		}
	})
}

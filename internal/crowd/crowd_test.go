package crowd

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/multiformats/go-multiaddr"
)

func TestWhoLeaves(t *testing.T) {
	a, b, c := netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("10.0.0.3/32")
	busy := map[string]bool{}
	crowd := New(5, 3, func(who string) bool { return busy[who] })
	step := func(who string, at netip.Prefix, want string) {
		t.Helper()
		out, crowded := crowd.Add(who, at)
		if out != want || crowded != (want != "") {
			t.Errorf("%s comes: %q leaves, want %q", who, out, want)
		}
	}
	step("a1", a, "")
	step("a2", a, "")
	step("a3", a, "")
	step("a4", a, "a1") // an address has its share
	busy["a2"] = true
	step("a5", a, "a3") // the oldest idle one
	step("b1", b, "")
	step("b2", b, "")
	step("c1", c, "a4") // of whom holds most
	busy["a5"] = true
	crowd.Remove("b1")
	step("c2", c, "")
	step("c3", c, "a2") // all of them are busy, or it is the first of equals
	crowd.RemoveFunc(func(string) bool { return true })
	for i := range 5 {
		step(fmt.Sprint("d", i), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 1, byte(i)}), 32), "")
	}
}

func TestAddressOf(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/10.1.2.3/tcp/1":             "10.1.2.3/32",
		"/ip6/2001:db8:1:2:3:4:5:6/tcp/1": "2001:db8:1:2::/64",
		"/ip6/::ffff:10.1.2.3/tcp/1":      "10.1.2.3/32",
		"/ip6zone/eth0/ip6/fe80::1/tcp/1": "fe80::/64",
		"/dns4/example.org/tcp/1":         "invalid Prefix",
		"/ip4/10.1.2.3/tcp/1/p2p-circuit": "10.1.2.3/32",
	} {
		if got := AddressOf(multiaddr.StringCast(addr)).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

package seal

import (
	"encoding/json"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatAGuardRefuses(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	g := Guard{
		Nets:   []netip.Prefix{p("169.254.0.0/16"), p("fe80::/10"), p("fd00:ec2::/64")},
		Points: []netip.AddrPort{netip.MustParseAddrPort("10.1.2.3:5432")},
		Ports:  []uint16{5433},
		Here:   []netip.Addr{a("10.9.9.9"), a("2001:db8::9")},
		But:    []netip.AddrPort{netip.MustParseAddrPort("169.254.169.254:53")},
	}
	b, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(GuardVar, string(b))
	read, err := readGuard()
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]bool{
		"169.254.169.254:80":         true,
		"169.254.169.254:53":         false, // a name server
		"169.254.169.253:53":         true,
		"[::ffff:169.254.169.254]:1": true,
		"[64:ff9b::a9fe:a9fe]:80":    true,
		"[fe80::1%eth0]:80":          true,
		"[fd00:ec2::254]:80":         true,
		"[fd00:ec3::254]:80":         false,
		"10.1.2.3:5432":              true,
		"[::ffff:10.1.2.3]:5432":     true,
		"10.1.2.3:5433":              false,
		"127.0.0.1:5433":             true,
		"127.9.9.9:5433":             true,
		"0.0.0.0:5433":               true,
		"[::]:5433":                  true,
		"[::1]:5433":                 true,
		"[::ffff:127.0.0.1]:5433":    true,
		"10.9.9.9:5433":              true,
		"[2001:db8::9]:5433":         true,
		"10.9.9.8:5433":              false,
		"127.0.0.1:5432":             false,
		"192.0.2.1:443":              false,
	} {
		if got := read.Refuses(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s: refused is %v", to, got)
		}
	}
	if !(&Guard{All: true}).Refuses(netip.MustParseAddrPort("192.0.2.1:443")) {
		t.Error("all is not all")
	}
}

// The kernel reads addresses leniently, and so must we.
func TestAddressesAsTheKernelReadsThem(t *testing.T) {
	t.Parallel()
	v4 := []byte{unix.AF_INET, 0, 0x15, 0x38, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	v6 := append([]byte{unix.AF_INET6, 0, 0x15, 0x38, 0, 0, 0, 0}, make([]byte, 20)...)
	v6[23] = 1
	for _, c := range []struct {
		b     []byte
		sends bool
		want  string
	}{
		{v4, false, "127.0.0.1:5432"},
		{append(v4, make([]byte, 112)...), false, "127.0.0.1:5432"},
		{v4[:15], false, ""},
		{append([]byte{0}, v4[1:]...), false, ""}, // the end of a connection
		{append([]byte{0}, v4[1:]...), true, "127.0.0.1:5432"},
		{v6, false, "[::1]:5432"},
		{v6[:24], false, "[::1]:5432"},
		{v6[:23], false, ""},
		{nil, false, ""},
	} {
		to, ok := address(c.b, c.sends)
		if ok != (c.want != "") || ok && to.String() != c.want {
			t.Errorf("%v, sends %v: %v %v, want %q", c.b, c.sends, to, ok, c.want)
		}
	}
}

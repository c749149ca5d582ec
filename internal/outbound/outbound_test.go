package outbound

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"interlock/internal/core"
)

func TestPrivateAddressesAreRefusedWhateverTheirForm(t *testing.T) {
	hit := false
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hit = true }))
	defer h.Close()
	port := netip.MustParseAddrPort(h.Listener.Addr().String()).Port()
	c := New(nil)
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "127.1", "2130706433"} {
		to := "http://" + host + ":" + netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):]
		if _, err := c.Post(t.Context(), to, nil, nil); err == nil {
			t.Errorf("%s was called", to)
		}
	}
	if hit {
		t.Error("a request came through")
	}
	for _, a := range []string{"10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "fd00::1", "fe80::1%eth0", "64:ff9b::a00:1", "2002:7f00:1::", "255.255.255.255"} {
		if core.KindOf(c.check(netip.MustParseAddr(a))) != core.Invalid {
			t.Errorf("%s is allowed", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "2606:4700::1111"} {
		if err := c.check(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	allow, err := ParseAllow("127.0.0.0/8, ::1")
	if err != nil {
		t.Fatal(err)
	}
	if a, err := New(allow).Post(t.Context(), h.URL, nil, []byte("x")); err != nil || a.Code != 200 || !hit {
		t.Errorf("allowed: %+v, %v", a, err)
	}
	if _, err := ParseAllow("localhost"); err == nil {
		t.Error("a name was taken for a network")
	}
}

func TestValidURL(t *testing.T) {
	for s, ok := range map[string]bool{"https://example.com/x": true, "http://h:1": true, "ftp://h": false, "http://u:p@h": false, "//h": false, "http://": false, "x": false, "http://h/\nx": false} {
		if (ValidURL(s) == nil) != ok {
			t.Errorf("%q: %v", s, ValidURL(s))
		}
	}
}

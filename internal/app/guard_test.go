package app

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestWhoseNetworkIsGuarded(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{{nil, networkGuarded}, {[]string{"--run-network=host"}, networkHost}, {[]string{"--run-network=none"}, networkNone}} {
		server, _, err := ParseConfig("server", c.args, noEnv, io.Discard, nil)
		if err != nil || server.RunNetwork != c.want || server.Limits.NoNetwork != (c.want == networkNone) {
			t.Errorf("server %v: %v, %v", c.args, server, err)
		}
		if got := guardOf(server.RunNetwork, nil, nil); (got == nil) != (c.want == networkHost) {
			t.Errorf("server %v has a guard: %v", c.args, got != nil)
		}
	}
	agent := func(args ...string) string {
		c, err := parseAgent(append([]string{"--address=https://interlock.example.com", "--token=x"}, args...), noEnv, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return c.RunNetwork
	}
	if got := agent(); got != networkHost {
		t.Errorf("an agent's runs have %s", got)
	}
	if got := agent("--run-network=guarded"); got != networkGuarded {
		t.Errorf("an agent's runs have %s", got)
	}
	if _, _, err := ParseConfig("server", []string{"--run-network=some"}, noEnv, io.Discard, nil); err == nil {
		t.Error("some is a network")
	}
}

// TestWhatIsRefusedOfTheServer: what runs on this machine is refused by its port,
// at whatever address; a database on another machine there alone; an object store
// elsewhere not at all.
func TestWhatIsRefusedOfTheServer(t *testing.T) {
	t.Setenv("PGHOST", "")
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	for _, c := range []struct {
		database, objects string
		refused, open     []string
	}{
		{"sqlite:/x", "file:/x", []string{"169.254.169.254:80", "[fd00:ec2::254]:80", "168.63.129.16:80", "100.100.100.200:80", "[fe80::1]:80"},
			[]string{"127.0.0.1:5432", "127.0.0.1:9000", "192.0.2.1:443"}},
		{"postgres://u:p@127.0.0.1:5499/x", "file:/x", []string{"127.0.0.1:5499", "[::1]:5499", "0.0.0.0:5499", "[::ffff:127.0.0.1]:5499"}, []string{"192.0.2.1:5499"}},
		{"postgres://u:p@localhost/x", "file:/x", []string{"127.0.0.1:5432", "[::1]:5432"}, nil},
		{"postgres://u:p@192.0.2.7:5499,192.0.2.8:5498/x", "file:/x", []string{"192.0.2.7:5499", "192.0.2.8:5498"}, []string{"192.0.2.7:5498", "127.0.0.1:5499"}},
		{"postgres:///x?host=/run/postgresql", "file:/x", nil, []string{"127.0.0.1:5432"}},
		{"sqlite:/x", "s3://b?endpoint=http://127.0.0.1:9000&use_path_style=true", []string{"127.0.0.1:9000", "0.0.0.0:9000"}, []string{"192.0.2.1:9000"}},
		{"sqlite:/x", "s3://b?endpoint=https://192.0.2.1", nil, []string{"192.0.2.1:443"}},
		{"sqlite:/x", "azblob://c?storage_account=a&domain=localhost:10000", []string{"127.0.0.1:10000"}, nil},
	} {
		cfg := &Config{Database: c.database, ObjectStore: c.objects}
		g := newGuardian(nil, cfg.behind()).current()
		for _, a := range c.refused {
			if !g.Refuses(at(a)) {
				t.Errorf("%s, %s: %s is not refused", c.database, c.objects, a)
			}
		}
		for _, a := range c.open {
			if g.Refuses(at(a)) {
				t.Errorf("%s, %s: %s is refused", c.database, c.objects, a)
			}
		}
	}
}

// The listener is refused only where the server's URL leads to something else.
func TestWhenRunsReachTheListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	for url, refused := range map[string]bool{
		"http://" + ln.Addr().String():                        false,
		fmt.Sprintf("https://interlock.example.com:%d", port): false,
		"https://interlock.example.com":                       true,
		"http://interlock.example.com":                        true,
	} {
		s := &Server{ln: ln, URL: url}
		if got := s.ownPorts(); slices.Contains(got, port) != refused {
			t.Errorf("%s: %v", url, got)
		}
	}
}

func TestNameServersAreReached(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# nameserver 192.0.2.9\nsearch example.com\nnameserver 169.254.169.254\nnameserver fe80::1%eth0\nnameserver\nnameserver nonsense\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("169.254.169.254:53"), netip.MustParseAddrPort("[fe80::1]:53")}
	if got := nameServers(file); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := nameServers(file + "-not"); got != nil {
		t.Errorf("%v", got)
	}
}

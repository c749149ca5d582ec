package app

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"interlock/internal/executor"
)

// What run-network may be.
const (
	networkGuarded = "guarded"
	networkHost    = "host"
	networkNone    = "none"
)

// metadata are the networks in which clouds keep what a machine is told of
// itself, its credentials among it: link-local addresses, and those that vendors
// took elsewhere.
func metadata() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{
		"169.254.0.0/16", "fe80::/10",
		"fd00:ec2::/64",      // Amazon
		"fd20:ce::254/128",   // Google
		"168.63.129.16/32",   // Azure
		"100.100.100.200/32", // Alibaba
		"192.0.0.192/32",     // Oracle
		"fd00:c1::/64",       // Oracle
		"fd00:42::42/128",    // Scaleway
	} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// service is something of the server's that a run has no business with.
type service struct {
	host     string
	port     uint16
	anywhere bool // refused also on another machine
}

// guardian knows where runs may not connect to. Names and addresses change while
// a server runs, so it looks again once in a while, and nobody waits for that.
type guardian struct {
	services []service
	ports    []uint16 // the server's own

	mu     sync.Mutex
	guard  executor.Guard
	looked time.Time
	busy   bool
	known  map[string][]netip.Addr // what names stood for the last time that they stood for something
}

const lookAgain = 30 * time.Second

// current is where runs may not connect to now.
func (g *guardian) current() executor.Guard {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.busy && time.Since(g.looked) > lookAgain {
		g.busy = true
		go g.look()
	}
	return g.guard
}

// look makes the guard anew.
func (g *guardian) look() {
	out := executor.Guard{Nets: metadata(), Here: ownAddresses(), But: nameServers("/etc/resolv.conf"), Ports: slices.Clone(g.ports)}
	known := map[string][]netip.Addr{}
	for _, s := range g.services {
		addrs := resolve(s.host)
		if len(addrs) == 0 {
			g.mu.Lock()
			addrs = g.known[s.host]
			g.mu.Unlock()
		}
		known[s.host] = addrs
		for _, a := range addrs {
			a = a.Unmap().WithZone("")
			switch {
			case a.IsLoopback() || a.IsUnspecified() || slices.Contains(out.Here, a):
				out.Ports = append(out.Ports, s.port)
			case s.anywhere:
				out.Points = append(out.Points, netip.AddrPortFrom(a, s.port))
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.guard, g.known, g.looked, g.busy = out, known, time.Now(), false
}

func resolve(host string) []netip.Addr {
	if strings.HasPrefix(host, "/") {
		return nil // a socket with a file
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.Addr{a}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addrs, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host) // the caller has the last answer
	return addrs
}

// ownAddresses are those of this machine's interfaces.
func ownAddresses() (out []netip.Addr) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			out = append(out, p.Addr().Unmap().WithZone(""))
		}
	}
	return out
}

// nameServers are where this machine asks for names. Some clouds answer that at
// the addresses of their metadata, on a port of its own.
func nameServers(file string) (out []netip.AddrPort) {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a.Unmap().WithZone(""), 53))
		}
	}
	return out
}

// newGuardian looks once, so that the first run is guarded too.
func newGuardian(ports []uint16, services []service) *guardian {
	g := &guardian{ports: ports, services: services, known: map[string][]netip.Addr{}}
	g.look()
	return g
}

// guardOf is what executor.Config wants of it; nil if nothing is asked for.
func guardOf(network string, ports []uint16, services []service) func() executor.Guard {
	if network == networkHost {
		return nil
	}
	return newGuardian(ports, services).current
}

// behind are the services that only the server itself calls: its database,
// wherever it is, and its object store if that is on this machine.
func (c *Config) behind() (out []service) {
	if !strings.HasPrefix(c.Database, "sqlite:") {
		if pg, err := pgconn.ParseConfig(c.Database); err == nil {
			out = append(out, service{pg.Host, pg.Port, true})
			for _, f := range pg.Fallbacks {
				out = append(out, service{f.Host, f.Port, true})
			}
		}
	}
	u, err := url.Parse(c.ObjectStore)
	if err != nil || u.Scheme == "file" {
		return out
	}
	places := []string{u.Query().Get("endpoint"), u.Query().Get("domain")}
	if u.Scheme == "s3" {
		places = append(places, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"))
	}
	for _, at := range places {
		if host, port, ok := hostPort(at); ok {
			out = append(out, service{host, port, false})
		}
	}
	return out
}

// hostPort reads a URL, or a host with or without a port.
func hostPort(at string) (host string, port uint16, ok bool) {
	if at == "" {
		return "", 0, false
	}
	if !strings.Contains(at, "://") {
		at = "https://" + at
	}
	u, err := url.Parse(at)
	if err != nil || u.Hostname() == "" {
		return "", 0, false
	}
	n, err := strconv.ParseUint(portOf(u), 10, 16)
	return u.Hostname(), uint16(n), err == nil
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// ownPorts are those of the server's listeners that no run calls. The one at
// which it answers its URL has to be reached: engines get modules and states of
// other workspaces there, with the token of their run. If the URL is that of
// something in front of it, it is reached by that alone.
func (s *Server) ownPorts() []uint16 {
	listens, ok := s.ln.Addr().(*net.TCPAddr)
	u, err := url.Parse(s.URL)
	if !ok || err != nil || portOf(u) == strconv.Itoa(listens.Port) {
		return nil
	}
	return []uint16{uint16(listens.Port)}
}

// tellNetwork logs once what runs reach.
func tellNetwork(network string, x *executor.Executor, refused string) {
	switch ok, why := x.Guarded(); {
	case network == networkHost:
		slog.Info("network of runs: host", "note", "Runs reach whatever this machine reaches, the cloud's metadata service included.")
	case network == networkNone:
		slog.Info("network of runs: none")
	case ok:
		slog.Info("network of runs: guarded", "note", "Runs reach what this machine reaches but for "+refused+".")
	default:
		slog.Warn("network of runs: NOT GUARDED here, runs reach "+refused, "why", why)
	}
}

// What a guard keeps runs from, for people.
const (
	refusedToServer = "the metadata services of clouds, the server's database, an object store on this machine, and the listener if it is not where the URL leads"
	refusedToAgent  = "the metadata services of clouds"
)

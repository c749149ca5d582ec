package app

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"interlock/internal/web"
)

// meta tells from which addresses this server speaks, for those who set up
// firewalls around it.
type meta struct {
	ranges  []string
	started time.Time
}

// newMeta takes the configured ranges, or the addresses of this machine.
func newMeta(configured []string) meta {
	m := meta{ranges: configured, started: time.Now().UTC().Truncate(time.Second)}
	if len(m.ranges) > 0 {
		return m
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() && (!p.Addr().IsLoopback() || len(addrs) < 3) {
			m.ranges = append(m.ranges, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()).String())
		}
	}
	slices.Sort(m.ranges)
	return m
}

// Routes mounts the list. It is of the server's start: a caller that has it
// since then is told so.
func (m meta) Routes(rt *web.Router) {
	rt.V2Raw("GET /api/meta/ip-ranges", func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Last-Modified", m.started.Format(http.TimeFormat))
		if since, err := http.ParseTime(r.Header.Get("If-Modified-Since")); err == nil && !m.started.After(since) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		web.WriteJSON(w, r, map[string][]string{"api": m.ranges, "notifications": m.ranges, "sentinel": m.ranges, "vcs": m.ranges})
		return nil
	})
}

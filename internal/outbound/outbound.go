// Package outbound is the way out: the HTTP client for addresses that users
// give. It looks at the address that a connection is really made to, after all
// names are resolved, and refuses those of this machine and of private
// networks unless the operator allows them.
package outbound

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"interlock/internal/core"
)

// The bounds of one call.
const (
	callTimeout = 10 * time.Second
	maxAnswer   = 64 << 10
)

// Client calls addresses that users gave.
type Client struct {
	http   *http.Client
	dialer *net.Dialer
	allow  []netip.Prefix
}

// ParseAllow reads the operator's list of networks that may be called although
// they are private: prefixes or addresses, separated by commas.
func ParseAllow(list string) (out []netip.Prefix, err error) {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		p, perr := netip.ParsePrefix(one)
		if perr != nil {
			a, aerr := netip.ParseAddr(one)
			if aerr != nil {
				return nil, core.Errorf(core.Invalid, "%q is neither an address nor a network such as 10.1.0.0/16", one)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// New makes a client that calls public addresses and those in allow. It uses
// no proxy, follows no redirect and keeps no cookie.
func New(allow []netip.Prefix) *Client {
	c := &Client{allow: allow}
	c.dialer = &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return core.Wrap(err, core.Invalid, "the address cannot be called")
		}
		return c.check(ap.Addr())
	}}
	c.http = &http.Client{
		Timeout:       callTimeout,
		Transport:     &http.Transport{DialContext: c.dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 32 << 10, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// closed are networks beyond those that netip knows as private: shared address
// space, protocol assignments, documentation, benchmarks, reserved, and IPv6
// forms that carry an IPv4 address inside.
func closed() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"240.0.0.0/4", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32", "2002::/16", "fec0::/10"} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// check refuses an address that users must not reach through us.
func (c *Client) check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	for _, p := range c.allow {
		if p.Contains(a) {
			return nil
		}
	}
	bad := a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || !a.IsValid()
	for _, p := range closed() {
		bad = bad || p.Contains(a)
	}
	if bad {
		return core.Errorf(core.Invalid, "the address leads to this machine or to a private network, which the operator has not allowed")
	}
	return nil
}

// ValidURL refuses what is no address for a call: not http or https, without a
// host, or with a password in it.
func ValidURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || len(s) > 2048 || strings.ContainsAny(s, "\x00\r\n ") {
		return core.Errorf(core.Invalid, "is not a valid URL")
	}
	return nil
}

// Answer is what came back. Body is cut at 64 kB.
type Answer struct {
	Code   int
	Header http.Header
	Body   []byte
}

// Post sends body to an address. An error says in a sentence for people why
// nothing came back.
func (c *Client) Post(ctx context.Context, to string, header map[string]string, body []byte) (Answer, error) {
	if err := ValidURL(to); err != nil {
		return Answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return Answer{}, core.Wrap(err, core.Invalid, "is not a valid URL")
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	res, err := c.http.Do(r)
	if err != nil {
		return Answer{}, reason(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return Answer{}, reason(err)
	}
	return Answer{Code: res.StatusCode, Header: res.Header, Body: b}, nil
}

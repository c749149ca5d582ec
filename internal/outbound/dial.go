package outbound

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"interlock/internal/core"
)

// Dial opens a connection to an address that a user gave, under the same rules
// as Post: what counts is the address that is really connected to.
func (c *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, reason(err)
	}
	return conn, nil
}

// Resolve returns an address of host that may be called, for programs that dial
// by themselves.
func (c *Client) Resolve(ctx context.Context, host string) (netip.Addr, error) {
	as, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, reason(err)
	}
	last := core.Errorf(core.Invalid, "the host's name cannot be resolved")
	for _, a := range as {
		if err := c.check(a); err != nil {
			last, _ = err.(*core.Error)
			continue
		}
		return a.Unmap(), nil
	}
	return netip.Addr{}, last
}

// HTTP is a client for libraries that speak to an address that a user gave: the
// rules of Post, a timeout for each call, and no redirects.
func (c *Client) HTTP(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: limited{&http.Transport{DialContext: c.dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 2}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// maxBody bounds an answer that a library reads.
const maxBody = 16 << 20

// limited cuts answers off at maxBody.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxBody), res.Body}
	}
	return res, err
}

// Reason says in a sentence for people why a call through HTTP failed.
func Reason(err error) error { return reason(err) }

// Download is a client for files from an address that a user gave: the rules
// of Post, up to five redirects, never from https to http, and no bound on how
// long or large an answer is, which the caller must have.
func (c *Client) Download() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: c.dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 60 * time.Second,
			MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 4},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 5 {
				return core.Errorf(core.Invalid, "the address redirects too often")
			}
			if via[len(via)-1].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return core.Errorf(core.Invalid, "the address redirects to one without TLS")
			}
			return nil
		},
	}
}

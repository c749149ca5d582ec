package git

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"interlock/internal/core"
	"interlock/internal/outbound"
	"interlock/internal/secret"
)

// A gate is a proxy on loopback through which one call of git reaches the
// world: it dials under the rules of outbound, whatever names git looks up, and
// counts what comes in. Its password is known to that call alone.
type gate struct {
	ln    net.Listener
	out   *outbound.Client
	token string
	most  int64
	came  atomic.Int64
	srv   *http.Server

	mu  sync.Mutex
	why error
}

func openGate(out *outbound.Client, most int64) (*gate, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gate{ln: ln, out: out, token: secret.NewToken(24), most: most}
	g.srv = &http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = g.srv.Serve(ln) }()
	return g, nil
}

func (g *gate) url() string { return "http://git:" + g.token + "@" + g.ln.Addr().String() }
func (g *gate) full() bool  { return g.came.Load() > g.most }
func (g *gate) close()      { _ = g.srv.Close() }

// refusal is why a connection was not made, if one was not.
func (g *gate) refusal() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

func (g *gate) dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := g.out.Dial(ctx, "tcp", address)
	if err != nil {
		g.mu.Lock()
		g.why = err
		g.mu.Unlock()
		return nil, err
	}
	return &counted{c, g}, nil
}

// counted ends a connection when too much came in.
type counted struct {
	net.Conn
	g *gate
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.g.came.Add(int64(n)) > c.g.most {
		return 0, errors.New("too much")
	}
	return n, err
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("git:"+g.token))
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) != 1 {
		w.Header().Set("Proxy-Authenticate", `Basic realm="git"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method == http.MethodConnect {
		g.tunnel(w, r)
		return
	}
	if r.URL.Scheme != "http" || r.URL.Host == "" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	g.forward(w, r)
}

// tunnel connects git with the server, which speak TLS with each other.
func (g *gate) tunnel(w http.ResponseWriter, r *http.Request) {
	up, err := g.dial(r.Context(), r.Host)
	if err != nil {
		http.Error(w, core.Message(err), http.StatusBadGateway)
		return
	}
	defer up.Close()
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	down, rw, err := h.Hijack()
	if err != nil {
		return
	}
	defer down.Close()
	_ = down.SetDeadline(time.Time{})
	if _, err := down.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(up, rw.Reader); done <- struct{}{} }()
	go func() { _, _ = io.Copy(down, up); done <- struct{}{} }()
	<-done
}

// forward passes a request on in clear text.
func (g *gate) forward(w http.ResponseWriter, r *http.Request) {
	tr := &http.Transport{DisableCompression: true, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return g.dial(ctx, address) }}
	defer tr.CloseIdleConnections()
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL = &url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	for _, h := range []string{"Proxy-Authorization", "Proxy-Connection", "Connection"} {
		out.Header.Del(h)
	}
	res, err := tr.RoundTrip(out)
	if err != nil {
		http.Error(w, "the server cannot be reached", http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	for k, vs := range res.Header {
		for _, v := range vs {
			w.Header().Add(k, v)
		}
	}
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, bufio.NewReader(res.Body))
}

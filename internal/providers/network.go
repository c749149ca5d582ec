package providers

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"interlock/internal/core"
)

// Index and Archives are the two documents of the provider network mirror
// protocol.
type (
	// Index is HOST/NAMESPACE/TYPE/index.json.
	Index struct {
		Versions map[string]struct{} `json:"versions"`
	}
	// Archives is HOST/NAMESPACE/TYPE/VERSION.json.
	Archives struct {
		Archives map[string]Archive `json:"archives"`
	}
	// Archive is one package, by platform. URL is relative to the document.
	Archive struct {
		URL    string   `json:"url"`
		Hashes []string `json:"hashes,omitempty"`
	}
)

// Mirror is an upstream that speaks the network mirror protocol: another
// installation, an agent's server, or files on any web server.
type Mirror struct {
	URL   string // ends with a slash
	Token string // sent with questions, not with downloads; "" for none
	HTTP  *http.Client
}

// Name implements Upstream.
func (m Mirror) Name(Address) string { return m.URL }

// Client implements Upstream.
func (m Mirror) Client() *http.Client { return m.HTTP }

func (m Mirror) ask(ctx context.Context, a Address, file string, into any) (*url.URL, error) {
	return getJSON(ctx, m.HTTP, m.URL+a.String()+"/"+file, m.Token, into)
}

// Versions implements Upstream.
func (m Mirror) Versions(ctx context.Context, a Address) (out []string, err error) {
	var x Index
	_, err = m.ask(ctx, a, "index.json", &x)
	for v := range x.Versions {
		out = append(out, v)
	}
	return out, err
}

func (m Mirror) archives(ctx context.Context, a Address, version string) (*url.URL, Archives, error) {
	var x Archives
	at, err := m.ask(ctx, a, version+".json", &x)
	return at, x, err
}

func offerOf(x Archive) (o Offer) {
	for _, h := range x.Hashes {
		if sum, ok := strings.CutPrefix(h, "zh:"); ok && isSum(sum) {
			o.SHA256 = sum
		} else if strings.HasPrefix(h, "h1:") {
			o.H1 = h
		}
	}
	return o
}

// Offers implements Upstream.
func (m Mirror) Offers(ctx context.Context, a Address, version string) (map[string]Offer, error) {
	_, x, err := m.archives(ctx, a, version)
	out := map[string]Offer{}
	for p, v := range x.Archives {
		if CheckPlatform(p) == nil {
			out[p] = offerOf(v)
		}
	}
	return out, err
}

// Locate implements Upstream.
func (m Mirror) Locate(ctx context.Context, a Address, version, platform string) (string, Offer, error) {
	at, x, err := m.archives(ctx, a, version)
	if err != nil {
		return "", Offer{}, err
	}
	v, ok := x.Archives[platform]
	if !ok {
		return "", Offer{}, core.Errorf(core.NotFound, "%s has no %s %s for %s", at.Host, a, version, platform)
	}
	u, err := at.Parse(v.URL)
	if err != nil || v.URL == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", Offer{}, core.Errorf(core.Unavailable, "%s does not say where its archive is", at.Host)
	}
	return u.String(), offerOf(v), nil
}

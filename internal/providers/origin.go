package providers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgp "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"interlock/internal/core"
	"interlock/internal/outbound"
)

// Origin is the registry of each provider's own host, over the provider
// registry protocol. What a registry publishes a key for must be signed with
// it; where it publishes none, as some do, the checksum alone is checked.
type Origin struct {
	// HTTP calls hosts that configurations name, so it must refuse networks that
	// they shall not reach.
	HTTP *http.Client
}

// Name implements Upstream.
func (o Origin) Name(a Address) string { return a.Host }

// Client implements Upstream.
func (o Origin) Client() *http.Client { return o.HTTP }

const maxAnswer = 8 << 20

// get asks for a small document.
func get(ctx context.Context, c *http.Client, from, token string) ([]byte, *url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", from, nil)
	if err != nil || req.URL.Scheme != "https" && req.URL.Scheme != "http" || req.URL.Host == "" {
		return nil, nil, core.Errorf(core.Unavailable, "%q is no address to ask", from)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, nil, core.Wrap(err, core.Unavailable, req.URL.Host+" cannot be asked: "+core.Message(outbound.Reason(err)))
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, nil, core.Errorf(core.NotFound, "%s does not have it", req.URL.Host)
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, nil, core.Errorf(core.NotFound, "%s does not give it without a token", req.URL.Host)
	default:
		return nil, nil, core.Errorf(core.Unavailable, "%s answered %s", req.URL.Host, res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil || len(b) > maxAnswer {
		return nil, nil, core.Errorf(core.Unavailable, "the answer of %s is too large or broke off", req.URL.Host)
	}
	return b, res.Request.URL, nil
}

func getJSON(ctx context.Context, c *http.Client, from, token string, into any) (*url.URL, error) {
	b, at, err := get(ctx, c, from, token)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return nil, core.Wrap(err, core.Unavailable, at.Host+" answered something that is not of the protocol")
	}
	return at, nil
}

// base is where the registry's provider service is.
func (o Origin) base(ctx context.Context, a Address) (*url.URL, error) {
	var services map[string]any
	at, err := getJSON(ctx, o.HTTP, "https://"+a.Host+"/.well-known/terraform.json", "", &services)
	if core.KindOf(err) == core.NotFound {
		return nil, core.Errorf(core.NotFound, "%s is no registry of providers", a.Host)
	}
	if err != nil {
		return nil, err
	}
	where, _ := services["providers.v1"].(string)
	u, err := at.Parse(where)
	if where == "" || err != nil || u.Scheme != "https" {
		return nil, core.Errorf(core.NotFound, "%s is no registry of providers", a.Host)
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return u.JoinPath(a.Namespace, a.Type), nil
}

type originVersions struct {
	Versions []struct {
		Version   string
		Platforms []struct{ OS, Arch string }
	}
}

func (o Origin) versions(ctx context.Context, a Address) (*url.URL, originVersions, error) {
	var out originVersions
	at, err := o.base(ctx, a)
	if err == nil {
		_, err = getJSON(ctx, o.HTTP, at.JoinPath("versions").String(), "", &out)
	}
	return at, out, err
}

// Versions implements Upstream.
func (o Origin) Versions(ctx context.Context, a Address) (out []string, err error) {
	_, list, err := o.versions(ctx, a)
	for _, v := range list.Versions {
		out = append(out, strings.TrimPrefix(v.Version, "v"))
	}
	if err == nil && len(out) == 0 {
		err = core.Errorf(core.NotFound, "%s has no version of %s", a.Host, a)
	}
	return out, err
}

// Offers implements Upstream: the signed list of checksums covers all
// platforms of a version.
func (o Origin) Offers(ctx context.Context, a Address, version string) (map[string]Offer, error) {
	at, list, err := o.versions(ctx, a)
	if err != nil {
		return nil, err
	}
	var platforms []string
	for _, v := range list.Versions {
		if strings.TrimPrefix(v.Version, "v") != version {
			continue
		}
		for _, p := range v.Platforms {
			if name := p.OS + "_" + p.Arch; CheckPlatform(name) == nil {
				platforms = append(platforms, name)
			}
		}
	}
	if len(platforms) == 0 {
		return nil, core.Errorf(core.NotFound, "%s has no %s %s", a.Host, a, version)
	}
	pkg, err := o.describe(ctx, at, version, platforms[0])
	if err != nil {
		return nil, err
	}
	sums, signer, err := o.sums(ctx, pkg)
	if err != nil {
		return nil, err
	}
	out := map[string]Offer{}
	for _, p := range platforms {
		if sum := sums[FileName(a, version, p)]; sum != "" {
			out[p] = Offer{SHA256: sum, Signer: signer}
		}
	}
	return out, nil
}

// described is the registry's answer about one package.
type described struct {
	at       *url.URL
	Filename string
	Shasum   string
	URL      string `json:"download_url"`
	SumsURL  string `json:"shasums_url"`
	SigURL   string `json:"shasums_signature_url"`
	Keys     struct {
		GPG []struct {
			ID    string `json:"key_id"`
			Armor string `json:"ascii_armor"`
		} `json:"gpg_public_keys"`
	} `json:"signing_keys"`
}

func (o Origin) describe(ctx context.Context, at *url.URL, version, platform string) (d described, err error) {
	os, arch, _ := strings.Cut(platform, "_")
	d.at, err = getJSON(ctx, o.HTTP, at.JoinPath(version, "download", os, arch).String(), "", &d)
	return d, err
}

// sums reads the list of checksums by file name, and who signed it.
func (o Origin) sums(ctx context.Context, d described) (map[string]string, string, error) {
	list, err := d.file(ctx, o.HTTP, d.SumsURL)
	if err != nil {
		return nil, "", err
	}
	signer := ""
	if len(d.Keys.GPG) > 0 {
		sig, err := d.file(ctx, o.HTTP, d.SigURL)
		if err != nil {
			return nil, "", err
		}
		for _, k := range d.Keys.GPG {
			ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(k.Armor))
			if err != nil {
				continue
			}
			// Old releases are signed with keys that have expired since; engines take
			// them too.
			e, err := openpgp.CheckDetachedSignature(ring, bytes.NewReader(list), bytes.NewReader(sig), &packet.Config{})
			if err == nil || e != nil && (errors.Is(err, pgp.ErrKeyExpired) || errors.Is(err, pgp.ErrSignatureExpired)) {
				signer = k.ID
				break
			}
		}
		if signer == "" {
			return nil, "", core.Errorf(core.Invalid, "the checksums that %s published are not signed with one of the keys that it names; nothing was taken", d.at.Host)
		}
	}
	out := map[string]string{}
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		if len(f) == 2 && isSum(strings.ToLower(f[0])) {
			out[strings.TrimPrefix(f[1], "*")] = strings.ToLower(f[0])
		}
	}
	return out, signer, nil
}

func (d described) file(ctx context.Context, c *http.Client, where string) ([]byte, error) {
	u, err := d.at.Parse(where)
	if err != nil || where == "" {
		return nil, core.Errorf(core.Unavailable, "%s does not say where its checksums are", d.at.Host)
	}
	b, _, err := get(ctx, c, u.String(), "")
	return b, err
}

// Locate implements Upstream.
func (o Origin) Locate(ctx context.Context, a Address, version, platform string) (string, Offer, error) {
	at, err := o.base(ctx, a)
	if err != nil {
		return "", Offer{}, err
	}
	d, err := o.describe(ctx, at, version, platform)
	if err != nil {
		return "", Offer{}, err
	}
	sums, signer, err := o.sums(ctx, d)
	if err != nil {
		return "", Offer{}, err
	}
	sum := strings.ToLower(d.Shasum)
	if !isSum(sum) || sums[d.Filename] != sum {
		return "", Offer{}, core.Errorf(core.Invalid, "the signed checksums of %s do not list %s with the checksum that it names; nothing was taken", d.at.Host, d.Filename)
	}
	u, err := d.at.Parse(d.URL)
	if err != nil || d.URL == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", Offer{}, core.Errorf(core.Unavailable, "%s does not say where its archive is", d.at.Host)
	}
	return u.String(), Offer{SHA256: sum, Signer: signer}, nil
}

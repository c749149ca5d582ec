package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strconv"
	"strings"
	"sync"
	"time"

	"interlock/internal/core"
	"interlock/internal/vcs/forge"
)

// isApp reports whether a connection is that of an app: what it holds is no
// token but a private key.
func isApp(c forge.Connection) bool {
	return strings.Contains(c.Token.Reveal(), "PRIVATE KEY-----")
}

// An app is a GitHub app and where it is installed.
type app struct {
	id           string
	installation int64
}

func appOf(c forge.Connection) (a app, key *rsa.PrivateKey, err error) {
	id, inst, ok := strings.Cut(c.Key, ":")
	n, perr := strconv.ParseInt(inst, 10, 64)
	if !ok || perr != nil || id == "" {
		return a, nil, core.Errorf(core.Invalid, "the key of a GitHub app's connection must be the app's id, a colon and the id of its installation, as 12345:67890")
	}
	block, _ := pem.Decode([]byte(c.Token.Reveal()))
	if block == nil {
		return a, nil, core.Errorf(core.Invalid, "the private key of the app is not PEM")
	}
	if key, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
		any, aerr := x509.ParsePKCS8PrivateKey(block.Bytes)
		if key, ok = any.(*rsa.PrivateKey); aerr != nil || !ok {
			return a, nil, core.Errorf(core.Invalid, "the private key of the app is no RSA key")
		}
	}
	return app{id, n}, key, nil
}

// assertion is what an app shows for a token: who it is, for nine minutes.
func (a app) assertion(key *rsa.PrivateKey, now time.Time) (string, error) {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]string{"alg": "RS256", "typ": "JWT"}) + "." +
		part(map[string]any{"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(8 * time.Minute).Unix(), "iss": a.id})
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), err
}

// tokens are those of installations, by connection, for as long as they live.
var tokens sync.Map

type minted struct {
	token string
	until time.Time
}

// CloneToken is the token with which repositories are cloned and the API is
// called: the connection's own, or one that lives for an hour.
func (f client) CloneToken(ctx context.Context) (string, error) {
	if !isApp(f.c) {
		return f.c.Token.Reveal(), nil
	}
	sum := sha256.Sum256([]byte(f.c.APIURL + "\x00" + f.c.Key + "\x00" + f.c.Token.Reveal()))
	name := hex.EncodeToString(sum[:])
	if m, ok := tokens.Load(name); ok && time.Now().Add(5*time.Minute).Before(m.(minted).until) {
		return m.(minted).token, nil
	}
	a, key, err := appOf(f.c)
	if err != nil {
		return "", err
	}
	jwt, err := a.assertion(key, time.Now())
	if err != nil {
		return "", err
	}
	c, err := f.plain(jwt)
	if err != nil {
		return "", err
	}
	t, res, err := c.Apps.CreateInstallationToken(ctx, a.installation, nil)
	if err != nil {
		return "", said(res, err)
	}
	tokens.Store(name, minted{t.GetToken(), t.GetExpiresAt().Time})
	return t.GetToken(), nil
}

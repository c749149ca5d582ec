package web

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/secret"
)

// Signer makes capabilities: strings that stand in a path and allow one method
// on one object until they expire. They stand in the path and not in the query
// because the clients rewrite or drop queries.
type Signer struct {
	Box  *secret.Box
	Base string // the server's URL without a trailing slash
	Now  func() time.Time
	// Era is another after a restore, which ends all capabilities of before.
	Era string
}

// Path returns the capability for method on object, "EXPIRY.MAC".
func (s *Signer) Path(method, object string, ttl time.Duration) string {
	exp := strconv.FormatInt(s.Now().Add(ttl).Unix(), 36)
	return exp + "." + s.mac(method, object, exp)
}

// PathFor is Path that also says who asked for it, "EXPIRY.WHO.MAC", so that the
// one who uses it is known without a token. WHO can be read and not be changed.
func (s *Signer) PathFor(ctx context.Context, method, object string, ttl time.Duration) string {
	sub := authz.Subject(ctx)
	if !sub.Known() {
		return s.Path(method, object, ttl)
	}
	exp := strconv.FormatInt(s.Now().Add(ttl).Unix(), 36)
	b, _ := json.Marshal([]string{string(sub.Kind), string(sub.ID), string(sub.TokenID), sub.Name}) // strings always can
	who := base64.RawURLEncoding.EncodeToString(b)
	return exp + "." + who + "." + s.mac(method, object, exp, who)
}

// Asked returns ctx for the one who asked for a capability that Check has found
// good. It gives no right; it is for the audit trail.
func Asked(ctx context.Context, capability string) context.Context {
	parts := strings.Split(capability, ".")
	if len(parts) != 3 {
		return ctx
	}
	var who []string
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(b, &who) != nil || len(who) != 4 {
		return ctx
	}
	return authz.With(ctx, core.Subject{Kind: core.SubjectKind(who[0]), ID: core.ID(who[1]), TokenID: core.ID(who[2]), Name: who[3]})
}

func (s *Signer) mac(method, object string, more ...string) string {
	data := append([]string{method, object}, more...)
	if s.Era != "" {
		data = append(data, s.Era)
	}
	return base64.RawURLEncoding.EncodeToString(s.Box.MAC("capability", data...)[:24])
}

// Check fails with NotFound for a capability that is forged, for something
// else, or over: the three look alike.
func (s *Signer) Check(method, object, capability string) error {
	if expired, err := s.Genuine(method, object, capability); err != nil || expired {
		return core.Errorf(core.NotFound, "not found")
	}
	return nil
}

// Genuine is Check for objects that may outlive a capability's time: it tells
// whether that is over.
func (s *Signer) Genuine(method, object, capability string) (expired bool, err error) {
	parts := strings.Split(capability, ".")
	said, mac := parts[:len(parts)-1], parts[len(parts)-1]
	if n := len(said); n < 1 || n > 2 || !hmac.Equal([]byte(mac), []byte(s.mac(method, object, said...))) {
		return false, core.Errorf(core.NotFound, "not found")
	}
	at, err := strconv.ParseInt(said[0], 36, 64)
	return err != nil || s.Now().Unix() > at, nil
}

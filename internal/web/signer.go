package web

import (
	"crypto/hmac"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

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

func (s *Signer) mac(method, object, exp string) string {
	data := []string{method, object, exp}
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
	exp, mac, ok := strings.Cut(capability, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(s.mac(method, object, exp))) {
		return false, core.Errorf(core.NotFound, "not found")
	}
	at, err := strconv.ParseInt(exp, 36, 64)
	return err != nil || s.Now().Unix() > at, nil
}

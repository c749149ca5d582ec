package bitbucket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"interlock/internal/vcs/forge"
)

// signed checks in constant time that a webhook's body was signed with key. Both
// kinds of Bitbucket sign the same way.
func signed(h http.Header, body []byte, key string) error {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(body)
	sig, ok := strings.CutPrefix(h.Get("X-Hub-Signature"), "sha256=")
	given, err := hex.DecodeString(sig)
	if !ok || err != nil || key == "" || !hmac.Equal(given, mac.Sum(nil)) {
		return forge.ErrForged()
	}
	return nil
}

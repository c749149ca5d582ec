package chaos_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// What a phase begins with comes with its claim, unless it is large: an agent
// that is far away then asks for less.
func TestSmallFilesComeWithTheClaim(t *testing.T) {
	t.Parallel()
	s := newServer(t, filepath.Join(t.TempDir(), "x.db"))
	to, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	asked := map[string]int{}
	pass := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.Method+" "+path.Base(r.URL.Path)]++
		mu.Unlock()
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	took := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		// A plan is one request and begins without one of its own.
		if asked["POST planned"] != 1 || asked["POST applied"] != 1 || asked["POST plan"] != 0 || asked["POST renew"] > 2 {
			t.Errorf("a run asked %v", asked)
		}
		for _, name := range []string{"configuration", "plan", "state"} {
			n += asked["GET "+name]
		}
		clear(asked)
		return n
	}

	pool, token := s.pool(t, "far")
	configuration := func(v, ballast string) string {
		return fmt.Sprintf("resource \"terraform_data\" \"a\" {\n  input = %q\n}\n\noutput \"v\" {\n  value = terraform_data.a.output\n}\n# %s\n", v, ballast)
	}
	w := s.served(t, "away", pool, true, configuration("one", ""))
	s.agent(t, filepath.Join(t.TempDir(), "agent"), front.URL, token)
	for _, v := range []string{"one", "two"} { // the second has a state to begin with
		s.configure(t, w, configuration(v, ""))
		s.wait(t, s.queue(t, w, nil), 60*time.Second, "applied")
		if n := took(); n != 0 {
			t.Errorf("%s: %d files were fetched", v, n)
		}
	}
	ballast := make([]byte, 200<<10) // does not get smaller
	rand.Read(ballast)
	s.configure(t, w, configuration("three", hex.EncodeToString(ballast)))
	s.wait(t, s.queue(t, w, nil), 60*time.Second, "applied")
	if n := took(); n != 2 { // the plan has the configuration in it
		t.Errorf("of a large configuration and its plan %d were fetched", n)
	}
}

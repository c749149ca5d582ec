package web

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestASlowBodyIsCutOff: who sends a byte now and then may not hold a
// connection, but an answer may take longer than the request was given.
func TestASlowBodyIsCutOff(t *testing.T) {
	rt := NewRouter(nil, nil, false, nil)
	rt.bodyTime, rt.bodyRest = 100*time.Millisecond, 100*time.Millisecond
	seen := make(chan error, 1)
	h := func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		if err == nil {
			time.Sleep(200 * time.Millisecond)
			err = r.Context().Err()
		}
		seen <- err
	}
	rt.Raw("POST /form", h)
	rt.Raw("PUT /upload/x", h)
	srv := httptest.NewServer(rt)
	defer srv.Close()
	for _, route := range []string{"POST /form", "PUT /upload/x"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{", route)
		select {
		case err := <-seen:
			if err == nil {
				t.Errorf("%s: half a body was taken", route)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: still waiting", route)
		}
	}
	resp, err := http.Post(srv.URL+"/form", "text/plain", strings.NewReader("whole"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-seen; err != nil {
		t.Errorf("a slow answer to a whole body: %v", err)
	}
}

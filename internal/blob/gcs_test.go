package blob_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"interlock/internal/blob/blobtest"
	"interlock/internal/core"
)

// between puts a proxy before a server of Google Cloud Storage's API, which does
// f first; f tells whether it has answered.
func between(t *testing.T, f func(http.ResponseWriter, *http.Request, http.Handler) bool) string {
	_, address, _ := strings.Cut(blobtest.GCS(t).Address, "endpoint=")
	to, _ := url.Parse(address)
	var here string
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		if l := r.Header.Get("Location"); l != "" {
			r.Header.Set("Location", strings.Replace(l, address, here, 1))
		}
		return nil
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f(w, r, proxy) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	here = srv.URL
	return "gs://interlock?anonymous=true&endpoint=" + here
}

// The server of the tests does not answer the question what it has of an upload;
// this proxy, which knows, does so in its place.
func TestAnUploadGoesOnWhereItWasCut(t *testing.T) {
	var pieces, cut, has atomic.Int64
	address := between(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		span := r.Header.Get("Content-Range")
		if r.Method != "PUT" {
			return false
		}
		if span == "bytes */*" {
			w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", has.Load()-1))
			w.WriteHeader(308)
			return true
		}
		arrives := func() {
			var from, to int64
			_, _ = fmt.Sscanf(span, "bytes %d-%d/", &from, &to)
			has.Store(to + 1)
		}
		switch pieces.Add(1) {
		case 2: // arrives, and its answer is lost
			next.ServeHTTP(httptest.NewRecorder(), r)
			arrives()
		case 4: // does not arrive
		default:
			arrives()
			return false
		}
		cut.Add(1)
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	s := openAt(t, address)
	want := bytes.Repeat([]byte("0123456789"), 3<<20)
	info, err := s.Put(t.Context(), "states/large", bytes.NewReader(want))
	if err != nil || info.Size != int64(len(want)) || cut.Load() != 2 {
		t.Fatalf("%+v, %v, %d pieces cut", info, err, cut.Load())
	}
	if got, err := s.Bytes(t.Context(), "states/large", 64<<20); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestAServiceThatChangesBytesIsFoundOut(t *testing.T) {
	address := between(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method != "POST" || r.URL.Query().Get("uploadType") != "media" {
			return false
		}
		var b bytes.Buffer
		_, _ = b.ReadFrom(r.Body)
		b.Bytes()[b.Len()/2] ^= 1
		r2, _ := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), &b)
		r2.Header = r.Header
		next.ServeHTTP(w, r2)
		return true
	})
	s := openAt(t, address)
	if _, err := s.Put(t.Context(), "states/bad", strings.NewReader(strings.Repeat("x", 1000))); err == nil {
		t.Fatal("changed bytes count as stored")
	}
	if _, err := s.Get(t.Context(), "states/bad"); core.KindOf(err) != core.NotFound {
		t.Errorf("they are kept: %v", err)
	}
}

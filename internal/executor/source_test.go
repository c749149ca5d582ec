package executor

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A version with a build of its own comes from there and nowhere else, if its
// sum is right and it is what it was called.
func TestBuildsOfOnesOwn(t *testing.T) {
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	f, err := zw.Create("terraform")
	if err == nil {
		_, err = f.Write([]byte("#!/bin/sh\necho 'Terraform v9.9.9'\n"))
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b.Bytes()) }))
	defer s.Close()
	good := Source{URL: s.URL, SHA256: hex.EncodeToString(sum[:])}
	said := map[string]Source{"9.9.9": good, "9.9.8": good, "9.9.7": {URL: s.URL, SHA256: strings.Repeat("00", 32)}, "9.9.6": {Elsewhere: true}}
	c := NewCatalog(CatalogConfig{DataDir: t.TempDir(), Mirror: t.TempDir()})
	c.Sources = func(context.Context) (map[string]Source, error) { return said, nil }
	e, err := c.Find(t.Context(), "terraform", "9.9.9")
	if err != nil || e.Version != "9.9.9" {
		t.Fatalf("found %+v, %v", e, err)
	}
	if c.Disabled(t.Context(), e) {
		t.Error("it is disabled")
	}
	said["9.9.9"] = Source{URL: good.URL, SHA256: good.SHA256, Disabled: true}
	if !c.Disabled(t.Context(), e) {
		t.Error("it is not disabled")
	}
	for v, want := range map[string]string{"9.9.8": "says it is", "9.9.7": "checksum", "9.9.6": "no build"} {
		if _, err := c.Find(t.Context(), "terraform", v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", v, err)
		}
	}
}

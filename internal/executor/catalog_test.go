package executor

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"interlock/internal/core"
)

// fakeEngine says its version and counts how often it was asked.
func fakeEngine(dir, product, version string) string {
	title := map[string]string{"terraform": "Terraform", "tofu": "OpenTofu"}[product]
	return fmt.Sprintf("#!/bin/sh\necho x >> %s/asked\necho '%s v%s'\necho 'on linux_amd64'\n", dir, title, version)
}

func mirror(t *testing.T, dir, product, version, content string) {
	t.Helper()
	at := filepath.Join(dir, product, version)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	f, _ := zw.Create(product)
	f.Write([]byte(content))
	zw.Close()
	name := fmt.Sprintf("%s_%s_%s.zip", product, version, platform())
	sums := fmt.Sprintf("%x  %s\n", sha256.Sum256(b.Bytes()), name)
	os.WriteFile(filepath.Join(at, name), b.Bytes(), 0o644)
	os.WriteFile(filepath.Join(at, fmt.Sprintf("%s_%s_SHA256SUMS", product, version)), []byte(sums), 0o644)
}

func TestCatalogInstallsOnceFromADirectory(t *testing.T) {
	t.Parallel()
	data, from := t.TempDir(), t.TempDir()
	mirror(t, from, "tofu", "1.9.1", fakeEngine(data, "tofu", "1.9.1"))
	mirror(t, from, "tofu", "1.9.2", fakeEngine(data, "tofu", "1.9.9"))
	mirror(t, from, "terraform", "1.2.3", fakeEngine(data, "terraform", "1.2.3"))
	sums := filepath.Join(from, "terraform", "1.2.3", "terraform_1.2.3_SHA256SUMS")
	b, _ := os.ReadFile(sums)
	b[0] ^= 1 // another digit
	os.WriteFile(sums, b, 0o644)

	c := NewCatalog(CatalogConfig{DataDir: data, Mirror: from})
	ctx := context.Background()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if e, err := c.Find(ctx, "tofu", "1.9.1"); err != nil || e.Version != "1.9.1" || !filepath.IsAbs(e.Path) {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
	wg.Wait()
	if asked, _ := os.ReadFile(filepath.Join(data, "asked")); string(asked) != "x\n" {
		t.Errorf("asked %q", asked)
	}
	if left, _ := filepath.Glob(filepath.Join(data, "engines", "tofu", ".new-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	// The next start asks nobody.
	c = NewCatalog(CatalogConfig{DataDir: data})
	if e, err := c.Find(ctx, "tofu", "~> 1.9.0"); err != nil || e.Version != "1.9.1" {
		t.Errorf("%+v, %v", e, err)
	}
	if asked, _ := os.ReadFile(filepath.Join(data, "asked")); string(asked) != "x\n" {
		t.Errorf("asked again: %q", asked)
	}
	c = NewCatalog(CatalogConfig{DataDir: data, Mirror: from})
	for what, want := range map[[2]string]string{
		{"terraform", "1.2.3"}: "could not be installed", // wrong checksum
		{"tofu", "1.9.2"}:      "says it is",
		{"tofu", "7.7.7"}:      "tofu 1.9.1",
	} {
		_, err := c.Find(ctx, what[0], what[1])
		if core.KindOf(err) != core.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", what, err)
		}
	}
	for _, bad := range [][2]string{{"pulumi", ""}, {"tofu", "newest"}, {"tofu", "../../etc"}} {
		if _, err := c.Find(ctx, bad[0], bad[1]); core.KindOf(err) != core.Invalid {
			t.Errorf("%v: %v, want Invalid", bad, err)
		}
	}
}

func TestCatalogOffersTheEngineGivenByPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "my-build")
	os.WriteFile(path, []byte(fakeEngine(dir, "tofu", "1.12.6-dev")), 0o755)
	c := NewCatalog(CatalogConfig{DataDir: dir, EnginePath: path})
	for _, v := range []string{"", "latest", "1.12.6-dev", "~> 1.12.0", "v1.12.6-dev"} {
		if e, err := c.Find(context.Background(), "tofu", v); err != nil || e.Version != "1.12.6-dev" {
			t.Errorf("%q: %+v, %v", v, e, err)
		}
	}
	if !slices.ContainsFunc(c.Installed(context.Background()), func(e Engine) bool { return e.Version == "1.12.6-dev" }) {
		t.Error("it is not among the installed")
	}
	c = NewCatalog(CatalogConfig{DataDir: dir, EnginePath: "/bin/true"})
	if _, err := c.Find(context.Background(), "", ""); core.KindOf(err) != core.Invalid {
		t.Errorf("/bin/true for an engine: %v", err)
	}
}

func TestValidateHCL(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{`"x"`, "1", "-1.5", "null", "true", "[]", "{}", `{a = "b", "c d" = [1, {}]}`, "<<EOT\nline\nEOT\n", `"a${"b"}"`, "1 + 2", `["a",
	"b",]`} {
		if err := ValidateHCL(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "{", `"x`, "x", "var.x", `file("/x")`, `[for a in [1] : a]`, `"${var.x}"`, `[1][*].x`, "1 2", "a = 1",
		strings.Repeat("[", 30_000), strings.Repeat("!", 30_000) + "true", strings.Repeat("1?", 30_000), strings.Repeat("-", 60_000) + "1",
		strings.Repeat(`"${`, 20_000), strings.Repeat("(", 30_000) + "1", strings.Repeat("{a=", 20_000), strings.Repeat("a.", 40_000), strings.Repeat("1+", 40_000) + "1", strings.Repeat("1-", 40_000) + "1"} {
		if err := ValidateHCL(bad); core.KindOf(err) != core.Invalid {
			t.Errorf("%.40s: %v, want Invalid", bad, err)
		}
	}
	long := "[" + strings.Repeat("-1, ", 20_000) + "]"
	if err := ValidateHCL(long); err != nil {
		t.Errorf("a long list: %v", err)
	}
}

func TestRedactorKnowsEncodings(t *testing.T) {
	t.Parallel()
	secret := "p@ss \"wörd\"<&>/+?${x}"
	r := newRedactor([]string{secret, "p@ss", "abc", "true", "", "\n\n", "-----BEGIN KEY-----\nMIIEvQIBADAN\n-----END KEY-----\n"})
	for in, want := range map[string]string{
		"is " + secret + ".":                                 "is (sensitive).",
		`"p@ss \"wörd\"\u003c\u0026\u003e/+?${x}"`:           `"(sensitive)"`,
		`"p@ss \"wörd\"<&>/+?$${x}"`:                         `"(sensitive)"`,
		"cEBzcyAid8O2cmQiPCY+Lys/JHt4fQ==":                   "(sensitive)",
		"cEBzcyAid8O2cmQiPCY-Lys_JHt4fQ":                     "(sensitive)",
		"p%40ss+%22w%C3%B6rd%22%3C%26%3E%2F%2B%3F%24%7Bx%7D": "(sensitive)",
		"abc true p@ss":                                      "abc true (sensitive)",
		"  MIIEvQIBADAN ":                                    "  (sensitive) ",
		"a\x02b\x03c":                                        "a\uFFFDb\uFFFDc",
		"nothing to see here.":                               "nothing to see here.",
	} {
		if got := string(r.mask([]byte(in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestSummaries(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]Counts{
		"Plan: 1 to add, 2 to change, 3 to destroy.":                                                        {1, 2, 3, 0},
		"Plan: 4 to import, 1 to add, 2 to change, 3 to destroy.":                                           {1, 2, 3, 4},
		"No changes. Your infrastructure matches.":                                                          {},
		"Apply complete! Resources: 1 added, 0 changed, 2 destroyed.":                                       {1, 0, 2, 0},
		"Apply complete! Resources: 5 imported, 1 added, 0 changed, 2 destroyed.":                           {1, 0, 2, 5},
		"Destroy complete! Resources: 7 destroyed.":                                                         {0, 0, 7, 0},
		`{"type":"change_summary","changes":{"add":1,"change":2,"import":3,"remove":4,"operation":"plan"}}`: {1, 2, 4, 3},
		"something else": {-1, -1, -1, -1},
	} {
		l := newLog(&Spec{})
		l.Write([]byte(line + "\n"))
		if l.counts != want {
			t.Errorf("%s: %+v, want %+v", line, l.counts, want)
		}
	}
}

func TestScanIsNotMovedByDepth(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		"x = " + strings.Repeat("[", 1<<16), strings.Repeat("a {\n", 1<<15), "x = " + strings.Repeat(`"${`, 1<<15), strings.Repeat("}", 1<<16),
	} {
		m := &module{backends: map[string][]span{}, calls: map[string]moduleCall{}, vars: map[string]bool{}}
		m.scanNative("x.tf", []byte(src))
		m.scanJSON("x.tf.json", []byte(`{"terraform":`+strings.Repeat("[", 1<<16)))
		if !m.unclear {
			t.Errorf("%.20s is clear", src)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add("terraform {\n  cloud {}\n}\nmodule \"x\" { source = \"./y\" }\n")
	f.Add("variable \"a\" { default = \"}\" }\nlocals { x = { a = \"${1}\" } } # }\n")
	f.Add("x = <<EOT\n}\nEOT\n")
	f.Fuzz(func(t *testing.T, src string) {
		m := &module{backends: map[string][]span{}, calls: map[string]moduleCall{}, vars: map[string]bool{}}
		m.scanNative("x.tf", []byte(src))
		m.scanJSON("x.tf.json", []byte(src))
		for _, ss := range m.backends {
			for _, s := range ss {
				if s.from < 0 || s.to > len(src) || s.from > s.to {
					t.Fatalf("span %+v of %d bytes", s, len(src))
				}
			}
		}
	})
}

package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A parser that recurses with its input would end the whole process.
func TestHostileSourcesAreNotParsed(t *testing.T) {
	for name, src := range map[string]string{
		"deep.tf":      "x = " + strings.Repeat("(", 100_000),
		"lists.tf":     "x = " + strings.Repeat("[", 100_000),
		"templates.tf": "x = " + strings.Repeat(`"${`, 50_000),
		"unary.tf":     "x = " + strings.Repeat("!", 200_000) + "a",
		"minus.tf":     "x = " + strings.Repeat("-", 200_000) + "1",
		"sum.tf":       "x = 1" + strings.Repeat("+1", 100_000),
		"choice.tf":    "x = " + strings.Repeat("a?", 100_000),
		"blocks.tf":    strings.Repeat("a {\n", 50_000),
		"deep.tf.json": strings.Repeat("[", 100_000),
		"text.tf.json": `{"x":"` + strings.Repeat("${", 50_000) + `"}`,
		"large.tf":     strings.Repeat("# nothing\n", 30_000),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		if d := inspect(dir); !d.Empty {
			t.Errorf("%s was parsed", name)
		}
	}
}

func TestLinksAndBrokenSourcesShowNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "README.md")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "main.tf")); err != nil {
		t.Fatal(err)
	}
	if d := inspect(dir); !d.Empty || d.Readme != "" {
		t.Errorf("a link is followed: %+v", d)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte("variable \"a\" {}\nthis is not {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inspect(dir)
}

func TestVersionsAreOrderedAsReleases(t *testing.T) {
	for _, c := range [][2]string{{"1.10.0", "1.9.0"}, {"1.0.0", "1.0.0-rc.1"}, {"1.0.0-rc.10", "1.0.0-rc.9"}, {"2.0.0", "1.99.99"}} {
		if newer(c[0], c[1]) >= 0 || newer(c[1], c[0]) <= 0 {
			t.Errorf("%s does not come before %s", c[0], c[1])
		}
	}
}

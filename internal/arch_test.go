package internal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

// floors lists the house from the ground up. A package imports only from
// floors below its own; anything not listed is a feature.
var floors = map[string]int{"core": 0, "db": 1, "jsonapi": 1, "jobs": 2, "web": 2, "app": 9}

const feature = 5

func floor(pkg string) int {
	top, _, _ := strings.Cut(pkg, "/")
	if n, ok := floors[top]; ok {
		return n
	}
	return feature
}

func TestFloors(t *testing.T) {
	const mod = "interlock/internal/"
	fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return nil
		}
		from := path.Dir(p)
		for _, im := range f.Imports {
			s, _ := strconv.Unquote(im.Path.Value)
			to, ours := strings.CutPrefix(s, mod)
			if !ours {
				continue
			}
			same := strings.Split(from, "/")[0] == strings.Split(to, "/")[0]
			if !same && floor(to) >= floor(from) {
				t.Errorf("%s (floor %d) imports %s (floor %d)", p, floor(from), to, floor(to))
			}
		}
		return nil
	})
}

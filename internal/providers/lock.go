package providers

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Locked is one provider of a dependency lock file.
type Locked struct {
	Address
	Version string
	Hashes  []string // h1:… and zh:…
}

// allows tells whether the engine takes a package with that hash.
func (l Locked) allows(hash string) bool { return slices.Contains(l.Hashes, hash) }

// What is read of a lock file at most.
const (
	maxLock   = 1 << 20
	maxLocked = 256
)

// ParseLock reads what a .terraform.lock.hcl pins. It is lenient: what it does
// not understand is left out, for the engine reads the file itself and says
// what is wrong with it. It reads tokens and never parses: a parser recurses as
// deep as its input says, and the input is anyone's.
func ParseLock(b []byte) (out []Locked) {
	if len(b) > maxLock {
		return nil
	}
	tokens, _ := hclsyntax.LexConfig(b, ".terraform.lock.hcl", hcl.InitialPos)
	at := func(i int) hclsyntax.Token {
		if i < len(tokens) {
			return tokens[i]
		}
		return hclsyntax.Token{Type: hclsyntax.TokenEOF}
	}
	quoted := func(i int) string { // of the three tokens of a plain string
		if at(i).Type == hclsyntax.TokenOQuote && at(i+1).Type == hclsyntax.TokenQuotedLit && at(i+2).Type == hclsyntax.TokenCQuote {
			return string(at(i + 1).Bytes)
		}
		return ""
	}
	for i := 0; i < len(tokens) && len(out) < maxLocked; i++ {
		if at(i).Type != hclsyntax.TokenIdent || string(at(i).Bytes) != "provider" || quoted(i+1) == "" || at(i+4).Type != hclsyntax.TokenOBrace {
			continue
		}
		a, err := ParseAddress(quoted(i + 1))
		l := Locked{Address: a}
		for i += 5; at(i).Type != hclsyntax.TokenCBrace && at(i).Type != hclsyntax.TokenEOF; i++ {
			if at(i).Type != hclsyntax.TokenIdent || at(i+1).Type != hclsyntax.TokenEqual {
				continue
			}
			switch string(at(i).Bytes) {
			case "version":
				l.Version = quoted(i + 2)
			case "hashes":
				for i += 2; at(i).Type != hclsyntax.TokenCBrack && at(i).Type != hclsyntax.TokenEOF; i++ {
					if h := quoted(i); h != "" {
						l.Hashes = append(l.Hashes, h)
					}
				}
			}
		}
		if err == nil && CheckVersion(l.Version) == nil {
			out = append(out, l)
		}
	}
	return out
}

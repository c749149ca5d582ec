package core

import (
	"regexp"
	"sync"
)

// A Pattern is a regular expression that is compiled when it is first used.
// The program starts itself anew around every engine, and what is compiled at
// its start makes each run wait for it.
type Pattern struct{ get func() *regexp.Regexp }

// NewPattern is the Pattern of an expression, which must be a constant: a
// faulty one panics at its first use.
func NewPattern(expr string) *Pattern {
	return &Pattern{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })}
}

// MatchString reports whether s contains a match.
func (p *Pattern) MatchString(s string) bool { return p.get().MatchString(s) }

// FindStringSubmatch gives the leftmost match and its groups, or nil.
func (p *Pattern) FindStringSubmatch(s string) []string { return p.get().FindStringSubmatch(s) }

package tfdata

import (
	"io"

	"interlock/internal/core"
)

// A Skim takes a JSON document in pieces and keeps it without what is large in
// it, so that a document of any size can be judged in little memory. It refuses
// what is no JSON at the byte where that shows. The values of some members are
// kept empty: "", {} or [] in their place.
type Skim struct {
	what  string
	empty func(path []string) bool                    // whether the value at path is kept empty
	take  func(path []string) (io.WriteCloser, error) // gets the text of a string that is kept empty; may be nil

	kept  []byte
	stack []byte   // of { and [ that are open
	path  []string // the member that each open object is at; "" in a list
	state skimState
	hide  int // depth of the value whose content is not kept; 0 for none
	at    int64

	key    []byte // of the key that is being read
	isKey  bool
	mute   bool // the string at hand is not kept
	sink   io.WriteCloser
	hex    int
	code   rune
	rest   string // of a literal
	number numberState
}

type skimState uint8

const (
	wantValue skimState = iota
	wantValueOrEnd
	wantKeyOrEnd
	wantKey
	wantColon
	wantComma
	inString
	inEscape
	inHex
	inLiteral
	inNumber
	over
)

type numberState uint8

const (
	numSign numberState = iota
	numZero
	numInt
	numDot
	numFrac
	numE
	numESign
	numExp
)

// NewSkim skims a document that errors call what.
func NewSkim(what string, empty func(path []string) bool, take func(path []string) (io.WriteCloser, error)) *Skim {
	return &Skim{what: what, empty: empty, take: take}
}

// large are the members of a state whose values say nothing about which
// resources it has.
func large(path []string) bool {
	switch path[len(path)-1] {
	case "attributes", "attributes_flat", "private", "primary", "value", "encrypted_data", "sensitive_attributes", "dependencies", "check_results":
		return true
	}
	return false
}

// SkimState skims a raw state.
func SkimState() *Skim { return NewSkim("the state", large, nil) }

// State is what ParseState would say of the document, but for the outputs'
// values.
func (s *Skim) State() (State, error) {
	b, err := s.Kept()
	if err != nil {
		return State{}, err
	}
	return ParseState(b)
}

// Kept is the document without what is large, once all of it was written.
func (s *Skim) Kept() ([]byte, error) {
	if s.state == inNumber && s.number.whole() && len(s.stack) == 0 {
		s.state = over
	}
	if s.state != over {
		return nil, s.wrong()
	}
	return s.kept, nil
}

func (s *Skim) wrong() error {
	return core.Errorf(core.Invalid, "%s is not valid JSON: error at byte %d", s.what, s.at)
}

// Write implements io.Writer.
func (s *Skim) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		if s.state == inString {
			// The bulk of any document.
			j := i
			for j < len(p) && p[j] >= ' ' && p[j] != '"' && p[j] != '\\' {
				j++
			}
			if err := s.text(p[i:j]); err != nil {
				return i, err
			}
			s.at += int64(j - i)
			if i = j; i == len(p) {
				break
			}
		}
		s.at++
		if err := s.step(p[i]); err != nil {
			return i, err
		}
		i++
	}
	return len(p), nil
}

func (s *Skim) keep(c byte) {
	if s.hide == 0 {
		s.kept = append(s.kept, c)
	}
}

// text takes a piece of a string as it is written, or a byte of an escape.
func (s *Skim) text(b []byte) error {
	if s.sink != nil {
		_, err := s.sink.Write(b)
		return err
	}
	if s.isKey {
		if len(s.key) < 64 {
			s.key = append(s.key, b...)
		}
	}
	if !s.mute && s.hide == 0 {
		s.kept = append(s.kept, b...)
	}
	return nil
}

// escaped takes a byte of an escape, and what it means once that is known.
func (s *Skim) escaped(c byte, meaning rune) error {
	if s.sink == nil {
		return s.text([]byte{c})
	}
	if meaning < 0 {
		return nil
	}
	_, err := s.sink.Write([]byte(string(meaning)))
	return err
}

func (s *Skim) step(c byte) error {
	switch s.state {
	case inString:
		switch c {
		case '"':
			return s.endString()
		case '\\':
			s.state = inEscape
			return s.escaped(c, -1)
		}
		return s.wrong()
	case inEscape:
		s.state = inString
		meaning, ok := map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'u': -1}[c]
		if !ok {
			return s.wrong()
		}
		if c == 'u' {
			s.state, s.hex, s.code = inHex, 0, 0
		}
		return s.escaped(c, meaning)
	case inHex:
		d := rune(c)
		switch {
		case c >= '0' && c <= '9':
			d -= '0'
		case c >= 'a' && c <= 'f':
			d -= 'a' - 10
		case c >= 'A' && c <= 'F':
			d -= 'A' - 10
		default:
			return s.wrong()
		}
		meaning := rune(-1)
		s.code = s.code<<4 | d
		if s.hex++; s.hex == 4 {
			s.state, meaning = inString, s.code
		}
		return s.escaped(c, meaning)
	case inLiteral:
		if c != s.rest[0] {
			return s.wrong()
		}
		s.keep(c)
		if s.rest = s.rest[1:]; s.rest == "" {
			s.endValue()
		}
		return nil
	case inNumber:
		if next, ok := s.number.after(c); ok {
			s.number = next
			s.keep(c)
			return nil
		}
		if !s.number.whole() {
			return s.wrong()
		}
		s.endValue()
	}
	return s.between(c)
}

// between takes a byte that is in no string, literal or number.
func (s *Skim) between(c byte) error {
	if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
		return nil
	}
	switch s.state {
	case wantKey, wantKeyOrEnd:
		if c == '"' {
			s.isKey, s.mute, s.key, s.state = true, false, s.key[:0], inString
			s.keep(c)
			return nil
		}
		if c == '}' && s.state == wantKeyOrEnd {
			return s.shut(c)
		}
		return s.wrong()
	case wantColon:
		if c != ':' {
			return s.wrong()
		}
		s.keep(c)
		s.state = wantValue
		return nil
	case wantComma:
		inList := s.stack[len(s.stack)-1] == '['
		switch {
		case c == ',' && inList:
			s.state = wantValue
		case c == ',':
			s.state = wantKey
		case c == ']' && inList, c == '}' && !inList:
			return s.shut(c)
		default:
			return s.wrong()
		}
		s.keep(c)
		return nil
	case wantValue, wantValueOrEnd:
		return s.begin(c)
	}
	return s.wrong()
}

// begin takes the first byte of a value.
func (s *Skim) begin(c byte) error {
	hollow := s.hide == 0 && len(s.stack) > 0 && s.stack[len(s.stack)-1] == '{' && s.empty(s.path)
	switch {
	case c == '{' || c == '[':
		s.keep(c)
		s.stack = append(s.stack, c)
		s.path = append(s.path, "")
		if len(s.stack) > maxDepth {
			return core.Errorf(core.Invalid, "%s is nested more than %d levels deep", s.what, maxDepth)
		}
		if hollow {
			s.hide = len(s.stack)
		}
		s.state = map[byte]skimState{'{': wantKeyOrEnd, '[': wantValueOrEnd}[c]
	case c == ']' && s.state == wantValueOrEnd:
		return s.shut(c)
	case c == '"':
		s.keep(c)
		s.isKey, s.mute, s.state = false, hollow, inString
		if hollow && s.take != nil {
			var err error
			s.sink, err = s.take(s.path)
			return err
		}
	case c == 't' || c == 'f' || c == 'n':
		s.keep(c)
		s.state, s.rest = inLiteral, map[byte]string{'t': "rue", 'f': "alse", 'n': "ull"}[c]
	case c == '-' || c >= '0' && c <= '9':
		s.keep(c)
		s.state, s.number = inNumber, numInt
		switch c {
		case '-':
			s.number = numSign
		case '0':
			s.number = numZero
		}
	default:
		return s.wrong()
	}
	return nil
}

func (s *Skim) shut(c byte) error {
	if s.hide == len(s.stack) {
		s.hide = 0
	}
	s.keep(c)
	s.stack, s.path = s.stack[:len(s.stack)-1], s.path[:len(s.path)-1]
	s.endValue()
	return nil
}

func (s *Skim) endString() error {
	s.mute = false
	s.keep('"')
	if s.isKey {
		if s.hide == 0 {
			s.path[len(s.path)-1] = string(s.key)
		}
		s.state = wantColon
		return nil
	}
	s.endValue()
	if s.sink != nil {
		err := s.sink.Close()
		s.sink = nil
		return err
	}
	return nil
}

func (s *Skim) endValue() {
	if s.state = wantComma; len(s.stack) == 0 {
		s.state = over
	}
}

func (n numberState) whole() bool { return n == numZero || n == numInt || n == numFrac || n == numExp }

// after is where a number stands that goes on with c; false if it does not.
func (n numberState) after(c byte) (numberState, bool) {
	digit := c >= '0' && c <= '9'
	e := c == 'e' || c == 'E'
	switch {
	case n == numSign && c == '0':
		return numZero, true
	case (n == numSign || n == numInt) && digit:
		return numInt, true
	case (n == numZero || n == numInt) && c == '.':
		return numDot, true
	case (n == numDot || n == numFrac) && digit:
		return numFrac, true
	case (n == numZero || n == numInt || n == numFrac) && e:
		return numE, true
	case n == numE && (c == '+' || c == '-'):
		return numESign, true
	case (n == numE || n == numESign || n == numExp) && digit:
		return numExp, true
	}
	return n, false
}

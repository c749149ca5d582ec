package tfdata

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"interlock/internal/core"
)

// maxDepth is far beyond what an engine writes; it bounds recursion and the
// number of times that a byte is looked at.
const maxDepth = 1024

// node is a JSON value that is taken apart one level at a time, only where
// somebody looks. What nobody changed is written back byte for byte. A nil
// node stands for an absent value.
type node struct {
	raw   []byte
	keys  []string // of an object, without duplicates: the last one wins
	kids  []*node
	index map[string]int // set when keys are too many to search
	open  bool
	dirty bool
}

// parse checks data and returns its root. what names the document in errors.
func parse(data []byte, what string) (*node, error) {
	if depth(data) > maxDepth {
		return nil, core.Errorf(core.Invalid, "%s is nested more than %d levels deep", what, maxDepth)
	}
	if !json.Valid(data) {
		var any json.RawMessage
		var syntax *json.SyntaxError
		if errors.As(json.Unmarshal(data, &any), &syntax) {
			return nil, core.Errorf(core.Invalid, "%s is not valid JSON: error at byte %d", what, syntax.Offset)
		}
		return nil, core.Errorf(core.Invalid, "%s is not valid JSON", what)
	}
	n := &node{raw: bytes.TrimSpace(data)}
	if n.kind() != '{' {
		return nil, core.Errorf(core.Invalid, "%s must be a JSON object", what)
	}
	return n, nil
}

func depth(data []byte) int {
	deep, most := 0, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = endOfString(data, i) - 1
		case '{', '[':
			deep++
			most = max(most, deep)
		case '}', ']':
			deep--
		}
	}
	return most
}

// endOfString returns the index after the string that starts at i, or
// len(data) if it does not end.
func endOfString(data []byte, i int) int {
	for i++; i < len(data); {
		j := bytes.IndexByte(data[i:], '"')
		if j < 0 {
			return len(data)
		}
		slashes := 0
		for k := i + j - 1; k >= i && data[k] == '\\'; k-- {
			slashes++
		}
		i += j + 1
		if slashes%2 == 0 {
			return i
		}
	}
	return len(data)
}

// endOfValue returns the index after the value that starts at i of valid JSON.
func endOfValue(data []byte, i int) int {
	deep := 0
	for i < len(data) {
		switch data[i] {
		case '"':
			i = endOfString(data, i)
			if deep == 0 {
				return i
			}
			continue
		case '{', '[':
			deep++
		case '}', ']':
			if deep == 0 {
				return i
			}
			if deep--; deep == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if deep == 0 {
				return i
			}
		}
		i++
	}
	return i
}

func unquote(raw []byte) string {
	if !bytes.ContainsRune(raw, '\\') {
		return string(bytes.ToValidUTF8(raw[1:len(raw)-1], []byte("\uFFFD")))
	}
	var s string
	_ = json.Unmarshal(raw, &s) // raw has been checked
	return s
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string always marshals
	return b
}

// kind is '{', '[', '"', 't', 'f', 'n', '0' for any number, or 0 for a nil node.
func (n *node) kind() byte {
	if n == nil || len(n.raw) == 0 {
		return 0
	}
	switch c := n.raw[0]; c {
	case '{', '[', '"', 't', 'f', 'n':
		return c
	}
	return '0'
}

func (n *node) isNull() bool { k := n.kind(); return k == 0 || k == 'n' }
func (n *node) isTrue() bool { return n.kind() == 't' }

// hasTrue reports whether any leaf is true: what marks are asked. It may err
// towards yes.
func (n *node) hasTrue() bool { return n != nil && bytes.Contains(n.raw, []byte("true")) }

func (n *node) expand() {
	if n.open {
		return
	}
	n.open = true
	object := n.kind() == '{'
	if !object && n.kind() != '[' {
		return
	}
	seen := map[string]int{}
	for i := 1; i < len(n.raw); {
		switch n.raw[i] {
		case ' ', '\t', '\r', '\n', ',', '}', ']':
			i++
			continue
		}
		var key string
		if object {
			end := endOfString(n.raw, i)
			key = unquote(n.raw[i:end])
			for i = end; n.raw[i] != ':'; i++ {
			}
			for i++; n.raw[i] <= ' '; i++ {
			}
		}
		end := endOfValue(n.raw, i)
		kid := &node{raw: n.raw[i:end]}
		i = end
		if at, again := seen[key]; object && again {
			n.kids[at] = kid
			n.dirty = true
			continue
		}
		if object {
			seen[key] = len(n.kids)
			n.keys = append(n.keys, key)
		}
		n.kids = append(n.kids, kid)
	}
	if len(seen) > 16 {
		n.index = seen
	}
}

// object returns the members in document order, none if n is no object.
func (n *node) object() ([]string, []*node) {
	if n.kind() != '{' {
		return nil, nil
	}
	n.expand()
	return n.keys, n.kids
}

// array returns the elements, none if n is no array.
func (n *node) array() []*node {
	if n.kind() != '[' {
		return nil
	}
	n.expand()
	return n.kids
}

func (n *node) get(key string) *node {
	keys, kids := n.object()
	if n != nil && n.index != nil {
		if i, ok := n.index[key]; ok {
			return kids[i]
		}
		return nil
	}
	if i := slices.Index(keys, key); i >= 0 {
		return kids[i]
	}
	return nil
}

func (n *node) at(i int) *node {
	if kids := n.array(); i >= 0 && i < len(kids) {
		return kids[i]
	}
	return nil
}

// str is the value of a string, and empty for anything else.
func (n *node) str() string {
	if n.kind() != '"' {
		return ""
	}
	return unquote(n.raw)
}

func (n *node) set(raw string) { *n = node{raw: []byte(raw), dirty: true} }

// rename gives member i another key, and is the caller's promise that no
// other member has it.
func (n *node) rename(i int, key string) {
	n.keys[i], n.index, n.dirty = key, nil, true
}

// bytes writes n. Untouched parts come out as they came in.
func (n *node) bytes() []byte {
	var b bytes.Buffer
	b.Grow(len(n.raw))
	n.write(&b)
	return b.Bytes()
}

// changed reports whether something at or below n differs from raw.
func (n *node) changed() bool {
	return n.dirty || slices.ContainsFunc(n.kids, (*node).changed)
}

func (n *node) write(b *bytes.Buffer) {
	if !n.open || !n.changed() {
		b.Write(n.raw)
		return
	}
	object := n.kind() == '{'
	b.WriteByte(n.raw[0])
	for i, kid := range n.kids {
		if i > 0 {
			b.WriteByte(',')
		}
		if object {
			b.Write(quote(n.keys[i]))
			b.WriteByte(':')
		}
		kid.write(b)
	}
	if object {
		b.WriteByte('}')
	} else {
		b.WriteByte(']')
	}
}

// equal compares two values as JSON: the order of members does not count, the
// writing of numbers does.
func (n *node) equal(m *node) bool {
	if n.isNull() || m.isNull() {
		return n.isNull() && m.isNull()
	}
	if bytes.Equal(n.raw, m.raw) {
		return true
	}
	if n.kind() != m.kind() {
		return false
	}
	switch n.kind() {
	case '"':
		return n.str() == m.str()
	case '[':
		return slices.EqualFunc(n.array(), m.array(), (*node).equal)
	case '{':
		keys, kids := n.object()
		if others, _ := m.object(); len(keys) != len(others) {
			return false
		}
		for i, k := range keys {
			other := m.get(k)
			if other == nil || !kids[i].equal(other) {
				return false
			}
		}
		return true
	}
	return false
}

func (n *node) int64() (int64, bool) {
	if n.kind() != '0' {
		return 0, false
	}
	i, err := strconv.ParseInt(string(n.raw), 10, 64)
	return i, err == nil
}

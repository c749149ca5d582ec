package run

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync"

	"interlock/internal/core"
)

// lineBlock is the grain in which lines are counted, in bytes of a log.
const lineBlock = 64 << 10

// lineIndex knows how many lines of a log stand before each of its blocks. It
// grows with the log, which only ever gets longer, and is read once.
type lineIndex struct {
	mu     sync.Mutex
	before []int64 // lines before block i; the last one may not be whole
}

// lineIndexes remembers the logs that were looked at last.
type lineIndexes struct {
	mu    sync.Mutex
	of    map[core.ID]*lineIndex
	order []core.ID
}

// keptIndexes bounds how many. One takes 8 bytes for 64 kB of log.
const keptIndexes = 256

func (x *lineIndexes) get(phase core.ID) *lineIndex {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, ok := x.of[phase]; ok {
		return i
	}
	if x.of == nil {
		x.of = map[core.ID]*lineIndex{}
	}
	if len(x.order) >= keptIndexes {
		delete(x.of, x.order[0])
		x.order = x.order[1:]
	}
	i := &lineIndex{before: []int64{0}}
	x.of[phase], x.order = i, append(x.order, phase)
	return i
}

// piece reads n bytes of a log from at, without its frame.
func (s *Service) piece(ctx context.Context, p Phase, at, n int64) ([]byte, error) {
	n = min(n, p.LogSize-at)
	if n <= 0 {
		return nil, nil
	}
	b := make([]byte, n)
	_, err := io.ReadFull(&logReader{ctx: ctx, s: s, phase: p.ID, at: at, size: at + n}, b)
	return b, err
}

// grow counts up to the block that holds offset at.
func (s *Service) grow(ctx context.Context, p Phase, x *lineIndex, at int64) error {
	for int64(len(x.before)-1) < min(at, p.LogSize)/lineBlock {
		last := len(x.before) - 1
		b, err := s.piece(ctx, p, int64(last)*lineBlock, lineBlock)
		if err != nil {
			return err
		}
		x.before = append(x.before, x.before[last]+int64(bytes.Count(b, []byte{'\n'})))
	}
	return nil
}

// lineAt is the number, from 1, of the line that holds offset at of a log.
func (s *Service) lineAt(ctx context.Context, p Phase, at int64) (int64, error) {
	at = min(max(at, 0), p.LogSize)
	x := s.lines.get(p.ID)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := s.grow(ctx, p, x, at); err != nil {
		return 0, err
	}
	b, err := s.piece(ctx, p, at/lineBlock*lineBlock, at%lineBlock)
	return 1 + x.before[at/lineBlock] + int64(bytes.Count(b, []byte{'\n'})), err
}

// offsetOf is where a line begins; of a line past the end, where the last block
// of the log does.
func (s *Service) offsetOf(ctx context.Context, p Phase, line int64) (int64, error) {
	if line <= 1 {
		return 0, nil
	}
	x := s.lines.get(p.ID)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := s.grow(ctx, p, x, p.LogSize); err != nil {
		return 0, err
	}
	// The line begins after line break number line-1, in the last block that has
	// fewer than that before it.
	i := sort.Search(len(x.before), func(i int) bool { return x.before[i] >= line-1 }) - 1
	i = max(i, 0)
	b, err := s.piece(ctx, p, int64(i)*lineBlock, lineBlock)
	if err != nil {
		return 0, err
	}
	at, left := 0, line-1-x.before[i]
	for left > 0 {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return int64(i) * lineBlock, nil
		}
		at += n + 1
		left--
	}
	return int64(i)*lineBlock + int64(at), nil
}

// A lineWish is the place in a log that an address names, and words to find.
type lineWish struct {
	Phase PhaseKind
	At    int64
	Find  string
}

// maxFind bounds what is searched for, in bytes.
const maxFind = 200

func lineWishOf(q url.Values) lineWish {
	w := lineWish{Phase: PhaseKind(q.Get("log")), Find: strings.TrimSpace(q.Get("find"))}
	if w.Phase != PlanPhase && w.Phase != ApplyPhase {
		return lineWish{}
	}
	if len(w.Find) > maxFind {
		w.Find = strings.ToValidUTF8(w.Find[:maxFind], "")
	}
	n, err := strconv.ParseInt(q.Get("at"), 10, 64)
	if err == nil && n > 0 {
		w.At = n
	}
	return w
}

// linesBefore is how many lines a page shows before the one it was asked for,
// where it cannot show all.
const linesBefore = 100

// logAround reads the part of a log around a line, or all of it if it is short.
func (s *Service) logAround(ctx context.Context, p Phase, line int64) (out logPiece, err error) {
	at := int64(0)
	if p.LogSize > shownLog {
		if at, err = s.offsetOf(ctx, p, line-linesBefore); err != nil {
			return out, err
		}
	}
	b, err := s.piece(ctx, p, at, shownLog)
	if err != nil {
		return out, err
	}
	if out.First, err = s.lineAt(ctx, p, at); err != nil {
		return out, err
	}
	whole := at+int64(len(b)) >= p.LogSize
	lines, used := logLines(b, whole && p.Ended())
	out.Lines, out.Cut, out.Mark = lines, at > 0, line
	out.After = !whole
	out.Next = at + int64(used) + 1 // with the frame
	out.Last = out.First + int64(bytes.Count(b[:used], []byte{'\n'}))
	if at == 0 && used == 0 {
		out.Next = 0
	}
	return out, nil
}

// A found line of a log.
type foundLine struct {
	N    int64
	Text string
}

// shownFound bounds how many lines a search shows.
const shownFound = 100

// find looks for words in the text of a log, as it is shown, without regard to
// case. It reads the log once, and stops at what it may show.
func (s *Service) find(ctx context.Context, p Phase, words string) (out []foundLine, more bool, err error) {
	words = strings.ToLower(words)
	n := int64(1)
	for at := int64(0); at < p.LogSize; {
		b, err := s.piece(ctx, p, at, 1<<20)
		if err != nil {
			return out, false, err
		}
		whole := at+int64(len(b)) >= p.LogSize
		lines, used := logLines(b, whole)
		for _, l := range lines {
			var text strings.Builder
			for _, x := range l.Spans {
				text.WriteString(x.Text)
			}
			if !strings.Contains(strings.ToLower(text.String()), words) {
				continue
			}
			if len(out) == shownFound {
				return out, true, nil
			}
			out = append(out, foundLine{n + l.N, cutText(text.String(), 300)})
		}
		n += int64(bytes.Count(b[:used], []byte{'\n'}))
		at += int64(used)
		if used == 0 {
			break
		}
	}
	return out, false, nil
}

func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

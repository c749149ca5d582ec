package run

import (
	"context"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
)

// LogEnd returns the last lines of what a run's engine said, as plain text of
// at most about most bytes, of its apply if that began and of its plan
// otherwise. It asks for no right: it is for letters to people who may read it.
func (s *Service) LogEnd(ctx context.Context, id core.ID, most int) (string, error) {
	var p Phase
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		ps, err := phasesOf(ctx, tx, []Run{{ID: id}})
		for _, x := range ps[id] {
			if x.LogSize > 0 && (p.ID == "" || x.Kind == ApplyPhase) {
				p = x
			}
		}
		return err
	})
	if err != nil || p.ID == "" {
		return "", err
	}
	from := max(0, p.LogSize+1-int64(most))
	t, err := s.readLog(ctx, p.ID, from, most)
	if err != nil {
		return "", err
	}
	b := t.Data
	if from > 0 { // it begins with a whole line
		if i := strings.IndexByte(string(b), '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	lines, _ := logLines(b, true)
	var out strings.Builder
	for _, l := range lines {
		for _, sp := range l.Spans {
			out.WriteString(sp.Text)
		}
		out.WriteByte('\n')
	}
	return out.String(), nil
}

package app

import (
	"context"
	"log/slog"

	"interlock/internal/web"
)

// requestLog adds the request of the context to each log line.
type requestLog struct{ slog.Handler }

func (h requestLog) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(web.LogAttrs(ctx)...)
	return h.Handler.Handle(ctx, r)
}

func (h requestLog) WithAttrs(a []slog.Attr) slog.Handler { return requestLog{h.Handler.WithAttrs(a)} }
func (h requestLog) WithGroup(n string) slog.Handler      { return requestLog{h.Handler.WithGroup(n)} }

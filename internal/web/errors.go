package web

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"interlock/internal/core"
	"interlock/internal/jsonapi"
)

// status is the one table from kinds to HTTP.
var status = map[core.Kind]int{
	core.Internal:    http.StatusInternalServerError,
	core.Invalid:     http.StatusUnprocessableEntity,
	core.Malformed:   http.StatusBadRequest,
	core.NotFound:    http.StatusNotFound,
	core.Denied:      http.StatusForbidden,
	core.Forbidden:   http.StatusForbidden,
	core.Unknown:     http.StatusUnauthorized,
	core.Conflict:    http.StatusConflict,
	core.Gone:        http.StatusGone,
	core.TooLarge:    http.StatusRequestEntityTooLarge,
	core.TooMany:     http.StatusTooManyRequests,
	core.Unavailable: http.StatusServiceUnavailable,
	core.NoSpace:     http.StatusInsufficientStorage,
}

// Code is the status of an error's kind, for handlers that write their own answer.
func Code(k core.Kind) int { return status[k] }

// logError writes the one log line of a failed request, if it failed on our side.
func logError(r *http.Request, err error) {
	switch core.KindOf(err) {
	case core.Internal:
		if r.Context().Err() != nil {
			return // the client went away; what broke because of that is no news
		}
		slog.ErrorContext(r.Context(), "request failed", "method", r.Method, "route", r.Pattern, "err", err)
	case core.Unavailable, core.NoSpace:
		slog.WarnContext(r.Context(), "request refused", "method", r.Method, "route", r.Pattern, "err", err)
	}
}

func retryAfter(w http.ResponseWriter, code int) {
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "2")
	}
}

type v2Error struct {
	Status string         `json:"status"`
	Title  string         `json:"title"`
	Detail string         `json:"detail,omitempty"`
	Source map[string]any `json:"source,omitempty"`
}

// writeV2Error answers in JSON:API's form. What the caller may not do does not
// exist for it, so Denied and NotFound share one body.
func writeV2Error(w http.ResponseWriter, r *http.Request, err error) {
	logError(r, err)
	kind := core.KindOf(err)
	if kind == core.Denied {
		kind = core.NotFound
	}
	code := status[kind]
	out := v2Error{Status: strconv.Itoa(code), Title: strings.ToLower(http.StatusText(code))}
	switch kind {
	case core.NotFound:
		out.Title = "not found"
	case core.Unknown:
		out.Title = "unauthorized"
	case core.Internal:
		out.Detail = "something went wrong on our side; the server's log knows more under request " + w.Header().Get("X-Request-Id")
	default:
		var all []v2Error
		for e, _ := errors.AsType[*core.Error](err); e != nil; e = e.Also {
			one := out
			one.Detail = e.Msg
			if e.Field != "" {
				one.Title, one.Detail = "invalid attribute", sentence(e.Field, e.Msg)
				one.Source = map[string]any{"pointer": "/data/attributes/" + e.Field}
			}
			all = append(all, one)
		}
		retryAfter(w, code)
		writeJSON(w, r, code, jsonapi.MediaType, map[string]any{"errors": all})
		return
	}
	retryAfter(w, code)
	writeJSON(w, r, code, jsonapi.MediaType, map[string]any{"errors": []v2Error{out}})
}

// sentence puts the name of an attribute before what is wrong with it, where
// that does not begin a sentence of its own.
func sentence(field, msg string) string {
	if c := msg[:min(1, len(msg))]; c == "" || c == strings.ToUpper(c) {
		return msg
	}
	words := strings.ReplaceAll(field, "-", " ")
	return strings.ToUpper(words[:1]) + words[1:] + " " + msg
}

// writeV1Error answers in the 2017 form, attribute to messages; atlas-go
// decodes a list of sentences instead and gets one.
func writeV1Error(w http.ResponseWriter, r *http.Request, err error) {
	logError(r, err)
	code := status[core.KindOf(err)]
	field := "base"
	if e, ok := errors.AsType[*core.Error](err); ok && e.Field != "" {
		field = e.Field
	}
	retryAfter(w, code)
	writeV1Body(w, r, code, field, core.Message(err))
}

func writeV1Body(w http.ResponseWriter, r *http.Request, code int, field, msg string) {
	var body any = map[string][]string{field: {msg}}
	if strings.HasPrefix(r.UserAgent(), "AtlasGo/") {
		if field != "base" {
			msg = field + " " + msg
		}
		body = []string{msg}
	}
	writeJSON(w, r, code, "application/json", map[string]any{"errors": body})
}

// writeFor answers an error that no door has taken, by the look of the path.
func writeFor(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/v1/"):
		writeV1Error(w, r, err)
	case strings.HasPrefix(r.URL.Path, "/api/"):
		v2Headers(w.Header())
		writeV2Error(w, r, err)
	default:
		writePageError(w, r, err)
	}
}

// writeStatus is writeFor with a status that no kind has.
func writeStatus(w http.ResponseWriter, r *http.Request, code int, err *core.Error) {
	if strings.HasPrefix(r.URL.Path, "/api/v1/") {
		writeV1Body(w, r, code, "base", err.Msg)
		return
	}
	writeJSON(w, r, code, jsonapi.MediaType, map[string]any{"errors": []v2Error{{Status: strconv.Itoa(code), Title: strings.ToLower(http.StatusText(code)), Detail: err.Msg}}})
}

// Answer2017 answers a raw upload or download: an empty 200, or an error in
// the form of the 2017 API, which go-tfe does not read either.
func Answer2017(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		writeV1Error(w, r, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// WriteV2 answers with a document, for v2 handlers that write their own answer.
func WriteV2(w http.ResponseWriter, r *http.Request, code int, doc *jsonapi.Doc) {
	writeJSON(w, r, code, jsonapi.MediaType, doc)
}

// Accepted answers 202 with the body that the vendor's description of the API
// declares for actions: the word null as a JSON string.
func Accepted(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, http.StatusAccepted, jsonapi.MediaType, "null")
}

// WriteJSON answers 200 with v, for handlers that write their own answer.
func WriteJSON(w http.ResponseWriter, r *http.Request, v any) {
	writeJSON(w, r, http.StatusOK, "application/json", v)
}

// WriteJSONStatus is WriteJSON with another status.
func WriteJSONStatus(w http.ResponseWriter, r *http.Request, code int, v any) {
	writeJSON(w, r, code, "application/json", v)
}

func writeJSON(w http.ResponseWriter, r *http.Request, code int, contentType string, v any) {
	var b []byte
	var err error
	if doc, ok := v.(*jsonapi.Doc); ok {
		b, err = doc.AppendJSON(nil)
	} else {
		b, err = json.Marshal(v)
	}
	if err != nil {
		slog.ErrorContext(r.Context(), "encode answer", "route", r.Pattern, "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	write(w, r, code, contentType, b)
}

func write(w http.ResponseWriter, r *http.Request, code int, contentType string, b []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(code)
	if _, err := w.Write(b); err != nil {
		slog.DebugContext(r.Context(), "client went away", "err", err)
	}
}

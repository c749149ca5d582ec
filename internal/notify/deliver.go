package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jobs"
	"interlock/internal/outbound"
	"interlock/internal/run"
)

// deliver is the job that sends a delivery; sweep the one that looks for
// deliveries whose job was lost.
type deliver struct {
	ID core.ID `json:"id"`
}

type sweep struct{}

func (deliver) Kind() string { return "notify_deliver" }
func (sweep) Kind() string   { return "notify_sweep" }

// attempts is how often a delivery is tried before it is given up: over about
// half an hour, with longer and longer pauses.
const attempts = 6

// kept is how many ended deliveries of a notification the log holds.
const kept = 50

// Jobs adds the jobs of notifications to k.
func (s *Service) Jobs(k *jobs.Kinds) {
	jobs.On(k, func(ctx context.Context, d deliver, attempt, most int) error {
		return s.deliver(ctx, d.ID, attempt >= most)
	})
	jobs.On(k, func(ctx context.Context, _ sweep, _, _ int) error {
		if err := s.hand(ctx, s.DB.Now().UTC().Add(-10*time.Second)); err != nil {
			return err
		}
		if err := s.gather(ctx, s.DB.Now().UTC()); err != nil {
			return err
		}
		return s.handLetters(ctx, s.DB.Now().UTC().Add(time.Minute))
	})
	jobs.On(k, func(ctx context.Context, p post, attempt, most int) error {
		return s.sendLetter(ctx, p.ID, attempt >= most)
	})
	jobs.Every(k, 30*time.Second, sweep{})
}

// telling names the trigger of a fact and says it in words.
func telling(what run.Fact) (trigger, words string) {
	switch what {
	case run.FactCreated:
		return RunCreated, "Run Created"
	case run.FactPlanning:
		return RunPlanning, "Run Planning"
	case run.FactNeedsAttention:
		return RunNeedsAttention, "Run Needs Attention"
	case run.FactApplying:
		return RunApplying, "Run Applying"
	case run.FactConfirmed:
		return RunConfirmed, "Run Confirmed"
	case run.FactDiscarded:
		return RunDiscarded, "Run Discarded"
	case run.FactCompleted:
		return RunCompleted, "Run Completed"
	case run.FactErrored:
		return RunErrored, "Run Errored"
	}
	return "", ""
}

// Told writes a delivery for everybody who wants to hear what happened to r,
// inside the transaction in which it happened.
func (s *Service) Told(ctx context.Context, tx *db.Tx, r run.Run, what run.Fact) error {
	trigger, words := telling(what)
	if trigger == "" {
		return nil
	}
	if r.Status == core.Canceled {
		words = "Run Canceled"
	}
	if err := s.tellPeople(ctx, tx, r.WorkspaceID, occasion{r.ID, trigger, words, r.Message, ""}); err != nil {
		return err
	}
	ns, err := wanting(ctx, tx, r.WorkspaceID)
	if err != nil || len(ns) == 0 {
		return err
	}
	p, err := placeOf(ctx, tx, r.WorkspaceID)
	if err != nil {
		return err
	}
	by := authz.Subject(ctx).Name
	if by == "" {
		by = r.CreatedName
	}
	for _, n := range ns {
		if !slices.Contains(n.Triggers, trigger) {
			continue
		}
		if err := s.write(ctx, tx, n, r.ID, trigger, s.about(n, r, p, trigger, words, by, tx.Now())); err != nil {
			return err
		}
	}
	return nil
}

// TellOf writes a delivery for everybody who wants to hear of a workspace what
// is no run's fact: words say it, and path is the page that tells more.
func (s *Service) TellOf(ctx context.Context, tx *db.Tx, ws core.ID, trigger, words, path string) error {
	if err := s.tellPeople(ctx, tx, ws, occasion{trigger: trigger, words: words, path: path}); err != nil {
		return err
	}
	ns, err := wanting(ctx, tx, ws)
	if err != nil || len(ns) == 0 {
		return err
	}
	p, err := placeOf(ctx, tx, ws)
	if err != nil {
		return err
	}
	for _, n := range ns {
		if !slices.Contains(n.Triggers, trigger) {
			continue
		}
		if err := s.write(ctx, tx, n, "", trigger, s.aboutWorkspace(n, ws, p, trigger, words, path, tx.Now())); err != nil {
			return err
		}
	}
	return nil
}

// wanting are the notifications that speak of a workspace: its own, and those
// of its project.
func wanting(ctx context.Context, tx *db.Tx, ws core.ID) ([]Notification, error) {
	return db.All(ctx, tx, scan, wantingSQL, ws)
}

const wantingSQL = `SELECT ` + columns + ` FROM notification n WHERE n.workspace_id = $1 AND n.enabled
	UNION ALL SELECT ` + columns + ` FROM notification n JOIN workspace w ON w.project_id = n.project_id WHERE w.id = $1 AND n.enabled`

func placeOf(ctx context.Context, tx *db.Tx, ws core.ID) (place, error) {
	return db.One(ctx, tx, func(row db.Row) (p place, err error) { return p, row.Scan(&p.org, &p.workspace) },
		`SELECT o.name, w.name FROM workspace w JOIN organization o ON o.id = w.org_id WHERE w.id = $1`, ws)
}

func (s *Service) write(ctx context.Context, tx *db.Tx, n Notification, run core.ID, event string, m message) error {
	s.fresh.Store(time.Now().Add(10 * time.Second).UnixNano())
	return insertDelivery(ctx, tx, delivery{ID: core.NewID("nd"), NotificationID: n.ID, RunID: run, Event: event, Status: pending, Body: m.body(), URL: n.URL, Headers: "{}", CreatedAt: tx.Now()})
}

// greet tries the address of a notification that was just switched on. It is
// switched on whatever comes of that: the log of deliveries tells.
func (s *Service) greet(ctx context.Context, tx *db.Tx, n Notification, was bool) error {
	if was || !n.Enabled || n.Destination == Email {
		return nil
	}
	return s.write(ctx, tx, n, "", "verification", verification(n))
}

// Run hands new deliveries to the queue as soon as they are committed, until
// ctx ends.
func (s *Service) Run(ctx context.Context) error {
	news, stop := s.Bus.Listen(run.MovedTopic)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-news:
			s.wake(ctx)
		}
	}
}

// wake looks for new deliveries if there may be any. A failure only delays: the
// sweep looks too.
func (s *Service) wake(ctx context.Context) {
	if time.Now().UnixNano() > s.fresh.Load() {
		return
	}
	if err := s.hand(context.WithoutCancel(ctx), s.DB.Now().UTC().Add(time.Minute)); err != nil {
		slog.WarnContext(ctx, "hand deliveries to the queue", "err", err)
	}
	if err := s.handLetters(context.WithoutCancel(ctx), s.DB.Now().UTC().Add(time.Minute)); err != nil {
		slog.WarnContext(ctx, "hand letters to the queue", "err", err)
	}
}

// hand makes jobs of the deliveries that wait since before.
func (s *Service) hand(ctx context.Context, before time.Time) error {
	var ids []core.ID
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		ids, err = db.All(ctx, tx, db.ID, `SELECT id FROM delivery WHERE status = 'pending' AND created_at < $1 ORDER BY created_at LIMIT 500`, before)
		return err
	})
	for _, id := range ids {
		if err != nil {
			return err
		}
		err = s.Queue.Once(ctx, deliver{id}, attempts)
	}
	return err
}

// deliver sends one delivery. What was sent already, or given up, stays so.
func (s *Service) deliver(ctx context.Context, id core.ID, last bool) error {
	var d delivery
	var n Notification
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if d, err = db.One(ctx, tx, scanDelivery, `SELECT `+deliveryColumns+` FROM delivery WHERE id = $1`, id); err != nil {
			return err
		}
		n, err = load(ctx, tx, d.NotificationID)
		return err
	})
	if core.KindOf(err) == core.NotFound || err == nil && d.Status != pending {
		return nil // deleted, or done by an earlier attempt
	}
	if err != nil {
		return err
	}
	d, again := s.send(ctx, n, d)
	if again != nil && (last || d.Attempts >= attempts) {
		d.Status = failed
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := updateDelivery(ctx, tx, d); err != nil || d.Status == pending {
			return err
		}
		return prune(ctx, tx, n.ID)
	})
	if err == nil && d.Status == pending {
		return again
	}
	return err
}

// send posts the body of d once and notes what came of it. An error says that
// it may be tried again.
func (s *Service) send(ctx context.Context, n Notification, d delivery) (delivery, error) {
	at := s.DB.Now().UTC().Truncate(time.Microsecond)
	d.SentAt, d.URL, d.Code, d.Headers = &at, n.URL, 0, "{}"
	d.Attempts++
	if n.Destination == Email {
		return s.post(ctx, n, d)
	}
	header := map[string]string{"Content-Type": "application/json", "User-Agent": "Interlock-Notification"}
	if n.Destination == Generic && len(n.token) > 0 {
		token, err := s.Box.Open(tokenPlace(n.ID), n.token)
		if err != nil {
			return d, err
		}
		mac := hmac.New(sha512.New, token)
		mac.Write([]byte(d.Body))
		header["X-TFE-Notification-Signature"] = hex.EncodeToString(mac.Sum(nil))
	}
	a, err := s.Outbound.Post(ctx, n.URL, header, []byte(d.Body))
	if err != nil {
		d.Answer = core.Message(err)
		return d, err
	}
	return note(d, a)
}

// maxNoted bounds what is kept of an answer, in bytes.
const maxNoted = 2 << 10

func note(d delivery, a outbound.Answer) (delivery, error) {
	body := strings.ToValidUTF8(string(a.Body[:min(len(a.Body), maxNoted)]), "\uFFFD")
	d.Code, d.Answer = int64(a.Code), strings.ReplaceAll(body, "\x00", "\uFFFD")
	head := map[string][]string{}
	for _, k := range []string{"Content-Type", "Date", "Server", "Retry-After"} {
		if v := a.Header.Values(k); len(v) > 0 && len(v[0]) < 256 {
			head[strings.ToLower(k)] = []string{strings.ToValidUTF8(v[0], "?")}
		}
	}
	b, _ := json.Marshal(head)
	d.Headers = string(b)
	if a.Code < 200 || a.Code > 299 {
		return d, core.Errorf(core.Unavailable, "the destination answered %d", a.Code)
	}
	d.Status = sent
	return d, nil
}

// prune keeps the log of a notification short.
func prune(ctx context.Context, tx *db.Tx, n core.ID) error {
	_, err := tx.Exec(ctx, `DELETE FROM delivery WHERE notification_id = $1 AND status <> 'pending' AND id NOT IN
		(SELECT id FROM delivery WHERE notification_id = $1 ORDER BY created_at DESC LIMIT $2)`, n, kept)
	return err
}

// Verify sends a test message at once and notes what came of it.
func (s *Service) Verify(ctx context.Context, id core.ID) (n Notification, err error) {
	if n, err = s.Get(ctx, id); err != nil {
		return n, err
	}
	d := delivery{ID: core.NewID("nd"), NotificationID: n.ID, Event: "verification", Status: failed, Body: verification(n).body(), CreatedAt: s.DB.Now().UTC().Truncate(time.Microsecond)}
	d, failure := s.send(ctx, n, d)
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insertDelivery(ctx, tx, d); err != nil {
			return err
		}
		if err := subject(ctx, tx, &n); err != nil {
			return err
		}
		if err := n.note(ctx, tx, "verify"); err != nil {
			return err
		}
		return prune(ctx, tx, n.ID)
	})
	if err == nil && d.Status != sent {
		err = core.Errorf(core.Malformed, "verification failed: %s", verdict(d, failure))
	}
	return n, err
}

func verdict(d delivery, failure error) string {
	if failure != nil {
		return core.Message(failure)
	}
	return d.Answer
}

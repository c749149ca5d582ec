package notify

import (
	"context"
	"encoding/json"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
)

const columns = `n.id, n.org_id, COALESCE(n.workspace_id, ''), COALESCE(n.project_id, ''), COALESCE(n.team_id, ''), n.name, n.destination, n.enabled,
	n.url, n.token, n.triggers, n.emails, n.users, n.created_at, n.updated_at`

func scan(r db.Row) (n Notification, err error) {
	var triggers, emails, users string
	if err := r.Scan(&n.ID, &n.OrgID, &n.WorkspaceID, &n.ProjectID, &n.TeamID, &n.Name, &n.Destination, &n.Enabled,
		&n.URL, &n.token, &triggers, &emails, &users, &n.CreatedAt, &n.UpdatedAt); err != nil {
		return n, err
	}
	for text, to := range map[string]any{triggers + " ": &n.Triggers, emails + "  ": &n.Emails, users + "   ": &n.Users} {
		if err := json.Unmarshal([]byte(text), to); err != nil {
			return n, err
		}
	}
	return n, nil
}

func list[T ~string](v []T) string {
	if v == nil {
		v = []T{}
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// null is an id of a reference that may be absent.
func null(id core.ID) any {
	if id == "" {
		return nil
	}
	return string(id)
}

func insert(ctx context.Context, tx *db.Tx, n Notification) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO notification (id, org_id, workspace_id, project_id, team_id, name, destination, enabled, url, token, triggers, emails, users, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		n.ID, n.OrgID, null(n.WorkspaceID), null(n.ProjectID), null(n.TeamID), n.Name, n.Destination, n.Enabled, n.URL, n.token,
		list(n.Triggers), list(n.Emails), list(n.Users), n.CreatedAt, n.UpdatedAt)
	return err
}

func update(ctx context.Context, tx *db.Tx, n Notification) error {
	_, err := tx.Exec(ctx, `UPDATE notification SET name = $2, enabled = $3, url = $4, token = $5, triggers = $6, emails = $7, users = $8, updated_at = $9 WHERE id = $1`,
		n.ID, n.Name, n.Enabled, n.URL, n.token, list(n.Triggers), list(n.Emails), list(n.Users), n.UpdatedAt)
	return err
}

func load(ctx context.Context, tx *db.Tx, id core.ID) (Notification, error) {
	return db.One(ctx, tx, scan, `SELECT `+columns+` FROM notification n WHERE n.id = $1`, id)
}

// The statuses of a delivery.
const (
	pending = "pending"
	sent    = "sent"
	failed  = "failed"
)

// A delivery is one message to one destination.
type delivery struct {
	ID             core.ID
	NotificationID core.ID
	RunID          core.ID
	Event          string
	Status         string
	Body           string
	URL            string
	Attempts       int64
	Code           int64
	Answer         string // what came back, or why nothing did
	Headers        string // JSON
	CreatedAt      time.Time
	SentAt         *time.Time
}

const deliveryColumns = `id, notification_id, run_id, event, status, body, url, attempts, code, answer, headers, created_at, sent_at`

func scanDelivery(r db.Row) (d delivery, err error) {
	return d, r.Scan(&d.ID, &d.NotificationID, &d.RunID, &d.Event, &d.Status, &d.Body, &d.URL, &d.Attempts, &d.Code, &d.Answer, &d.Headers, &d.CreatedAt, &d.SentAt)
}

func insertDelivery(ctx context.Context, tx *db.Tx, d delivery) error {
	return tx.Write(ctx, `INSERT INTO delivery (`+deliveryColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		d.ID, d.NotificationID, d.RunID, d.Event, d.Status, d.Body, d.URL, d.Attempts, d.Code, d.Answer, d.Headers, d.CreatedAt, d.SentAt)
}

func updateDelivery(ctx context.Context, tx *db.Tx, d delivery) error {
	return tx.Write(ctx, `UPDATE delivery SET status = $2, attempts = $3, code = $4, answer = $5, headers = $6, sent_at = $7, url = $8 WHERE id = $1`,
		d.ID, d.Status, d.Attempts, d.Code, d.Answer, d.Headers, d.SentAt, d.URL)
}

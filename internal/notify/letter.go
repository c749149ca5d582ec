package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/mail"
)

// mailTo is where the letters of a notification go: the addresses it names,
// and those of its users who still belong to the organization.
func (s *Service) mailTo(ctx context.Context, n Notification) (to []string, err error) {
	to = append(to, n.Emails...)
	if len(n.Users) == 0 {
		return to, nil
	}
	args := []any{n.OrgID}
	for _, id := range n.Users {
		args = append(args, id)
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		more, err := db.All(ctx, tx, func(r db.Row) (v string, err error) { return v, r.Scan(&v) },
			`SELECT u.email FROM app_user u JOIN org_member m ON m.user_id = u.id
			WHERE m.org_id = $1 AND u.email <> '' AND u.suspended = false AND u.id IN (`+db.In(2, len(n.Users))+`) ORDER BY u.email`, args...)
		to = append(to, more...)
		return err
	})
	return to, err
}

// maxLog is how much of the end of a log a letter has, in bytes.
const maxLog = 16 << 10

// withLog reports whether a letter about a trigger has the end of the log.
func withLog(trigger string) bool {
	return trigger == RunNeedsAttention || trigger == RunCompleted || trigger == RunErrored
}

// letter writes a message for people; log is the end of what the engine said.
func (m message) letter(to []string, log string) mail.Letter {
	h := m.Notifications[0]
	subject, text := "Interlock: "+h.Message, h.Message+"\n"
	if m.WorkspaceName != nil && m.Organization != nil {
		subject = fmt.Sprintf("Interlock: %s: %s/%s", h.Message, *m.Organization, *m.WorkspaceName)
		text = fmt.Sprintf("%s: %s/%s\n", h.Message, *m.Organization, *m.WorkspaceName)
	}
	if m.RunMessage != nil && m.RunCreatedBy != nil {
		text += fmt.Sprintf("\n%s, by %s\n", strings.TrimSpace(*m.RunMessage), *m.RunCreatedBy)
	}
	if m.RunURL != nil {
		text += "\n" + *m.RunURL + "\n"
	}
	if m.WorkspaceURL != nil {
		text += "\n" + *m.WorkspaceURL + "\n"
	}
	if log != "" {
		text += "\nThe end of the log:\n\n" + log
	}
	return mail.Letter{To: to, Subject: subject, Text: text}
}

// post sends a delivery by mail. That there is no mail server, or nobody to
// write to, is not tried again.
func (s *Service) post(ctx context.Context, n Notification, d delivery) (delivery, error) {
	to, err := s.mailTo(ctx, n)
	if err != nil {
		return d, err
	}
	var m message
	if err := json.Unmarshal([]byte(d.Body), &m); err != nil || len(m.Notifications) == 0 {
		return d, fmt.Errorf("read delivery %s: %v", d.ID, err)
	}
	if len(to) == 0 {
		d.Status, d.Answer = failed, "nobody whom it names has an address; nothing was sent"
		return d, nil
	}
	d.URL = strings.Join(to, ", ")
	log := ""
	if d.RunID != "" && s.Log != nil && withLog(m.Notifications[0].Trigger) {
		if log, err = s.Log(ctx, d.RunID, maxLog); err != nil && core.KindOf(err) != core.NotFound {
			return d, err
		}
	}
	err = s.Mail(ctx, m.letter(to, log))
	switch {
	case err != nil && core.KindOf(err) == core.Conflict:
		d.Status, d.Answer = failed, core.Message(err)
		return d, nil
	case err != nil:
		d.Answer = core.Message(err)
		return d, err
	}
	d.Status, d.Answer = sent, "the mail server took it"
	return d, nil
}

package notify

import (
	"encoding/json"
	"fmt"
	"time"

	"interlock/internal/core"
	"interlock/internal/run"
)

// message is what is told of a run, or of nothing but that the address works.
// Its form is the vendor's, which receivers have been written for.
type message struct {
	Version        int        `json:"payload_version"`
	Notification   core.ID    `json:"notification_configuration_id"`
	RunURL         *string    `json:"run_url"`
	RunID          *core.ID   `json:"run_id"`
	RunMessage     *string    `json:"run_message"`
	RunCreatedAt   *time.Time `json:"run_created_at"`
	RunCreatedBy   *string    `json:"run_created_by"`
	WorkspaceID    *core.ID   `json:"workspace_id"`
	WorkspaceName  *string    `json:"workspace_name"`
	Organization   *string    `json:"organization_name"`
	WorkspaceURL   *string    `json:"workspace_url,omitempty"` // ours: of what is no run's fact
	Notifications  []happened `json:"notifications"`
	destination    string
	organization   string
	workspace, url string
}

type happened struct {
	Message   string     `json:"message"`
	Trigger   string     `json:"trigger"`
	RunStatus *string    `json:"run_status"`
	UpdatedAt *time.Time `json:"run_updated_at"`
	UpdatedBy *string    `json:"run_updated_by"`
}

// verification is the message that tries an address.
func verification(n Notification) message {
	return message{Version: 1, Notification: n.ID, destination: n.Destination,
		Notifications: []happened{{Message: "Verification of " + n.Name, Trigger: "verification"}}}
}

// place is where a run is.
type place struct{ org, workspace string }

func (s *Service) about(n Notification, r run.Run, p place, trigger, words, by string, at time.Time) message {
	u := s.Base + "/app/" + p.org + "/" + p.workspace + "/runs/" + string(r.ID)
	status := string(r.Status)
	return message{Version: 1, Notification: n.ID, RunURL: &u, RunID: &r.ID, RunMessage: &r.Message, RunCreatedAt: &r.CreatedAt, RunCreatedBy: &r.CreatedName,
		WorkspaceID: &r.WorkspaceID, WorkspaceName: &p.workspace, Organization: &p.org,
		Notifications: []happened{{Message: words, Trigger: trigger, RunStatus: &status, UpdatedAt: &at, UpdatedBy: &by}},
		destination:   n.Destination, organization: p.org, workspace: p.workspace, url: u}
}

// aboutWorkspace is the message of what is no run's fact.
func (s *Service) aboutWorkspace(n Notification, ws core.ID, p place, trigger, words, path string, at time.Time) message {
	u := s.Base + "/app/" + p.org + "/" + p.workspace + path
	return message{Version: 1, Notification: n.ID, WorkspaceID: &ws, WorkspaceName: &p.workspace, Organization: &p.org, WorkspaceURL: &u,
		Notifications: []happened{{Message: words, Trigger: trigger, UpdatedAt: &at}},
		destination:   n.Destination, organization: p.org, workspace: p.workspace, url: u}
}

// body writes the message the way its destination reads it.
func (m message) body() string {
	h := m.Notifications[0]
	head := h.Message
	if m.workspace != "" {
		head = fmt.Sprintf("%s: %s/%s", h.Message, m.organization, m.workspace)
	}
	text := ""
	if m.RunMessage != nil {
		text = fmt.Sprintf("%s, by %s", *m.RunMessage, *m.RunCreatedBy)
	}
	var v any = m
	switch m.destination {
	case Slack:
		a := map[string]any{"fallback": head, "title": head, "text": text}
		if m.url != "" {
			a["title_link"] = m.url
		}
		v = map[string]any{"text": head, "attachments": []any{a}}
	case Teams:
		card := []any{map[string]any{"type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": true, "text": head}}
		if text != "" {
			card = append(card, map[string]any{"type": "TextBlock", "wrap": true, "text": text})
		}
		content := map[string]any{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": card}
		if m.url != "" {
			content["actions"] = []any{map[string]any{"type": "Action.OpenUrl", "title": "Open it", "url": m.url}}
		}
		v = map[string]any{"type": "message", "attachments": []any{map[string]any{"contentType": "application/vnd.microsoft.card.adaptive", "content": content}}}
	}
	b, _ := json.Marshal(v)
	return string(b)
}

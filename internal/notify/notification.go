// Package notify tells people and machines about runs: who wants to hear of
// what, at which address, and how each delivery went.
package notify

import (
	"context"
	"net/mail"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"interlock/internal/audit"
	"interlock/internal/authz"
	"interlock/internal/bus"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/jobs"
	letters "interlock/internal/mail"
	"interlock/internal/outbound"
	"interlock/internal/secret"
)

// A Notification asks for messages about the runs of a workspace or of all
// workspaces of a project, or about a team.
type Notification struct {
	ID          core.ID
	OrgID       core.ID
	WorkspaceID core.ID // exactly one of these three is set
	ProjectID   core.ID
	TeamID      core.ID
	Name        string
	Destination string // one of destinations; stays as it was made
	Enabled     bool
	URL         string
	Triggers    []string
	Emails      []string
	Users       []core.ID
	CreatedAt   time.Time
	UpdatedAt   time.Time

	token []byte // sealed; signs generic messages
}

// The destinations.
const (
	Generic = "generic"
	Slack   = "slack"
	Teams   = "microsoft-teams"
	Email   = "email"
)

// The triggers that runs pull.
const (
	RunCreated        = "run:created"
	RunPlanning       = "run:planning"
	RunNeedsAttention = "run:needs_attention"
	RunApplying       = "run:applying"
	RunCompleted      = "run:completed"
	RunErrored        = "run:errored"
	// Ours, since the system of 2017 had them.
	RunConfirmed = "run:confirmed"
	RunDiscarded = "run:discarded"
)

func triggers() []string {
	return []string{RunCreated, RunPlanning, RunNeedsAttention, RunApplying, RunCompleted, RunErrored, RunConfirmed, RunDiscarded,
		"assessment:drifted", "assessment:check_failure", "assessment:failed",
		"workspace:auto_destroy_reminder", "workspace:auto_destroy_run_results", "workspace:break_glass", "team:change_request", "change_request:created", "stack:created"}
}

// Bounds of a notification.
const (
	maxName  = 255
	maxToken = 4096
	maxList  = 200
)

// Service is what the API and the jobs call.
type Service struct {
	DB       *db.DB
	Box      *secret.Box
	Bus      *bus.Bus
	Outbound *outbound.Client
	Base     string // the server's URL, for links
	Queue    *jobs.Queue
	// Log is the end of what the engine of a run said, without what is secret.
	Log func(ctx context.Context, run core.ID, most int) (string, error)
	// Mail sends a letter; core.Conflict where there is no mail server.
	Mail func(context.Context, letters.Letter) error

	fresh atomic.Int64 // until when, in Unix nanoseconds, new deliveries may be found
}

// Input is what a caller says about a notification; nil leaves a field as it is.
type Input struct {
	Name, Destination, URL, Token *string
	Enabled                       *bool
	Triggers, Emails              *[]string
	Users                         *[]core.ID
}

// tokenPlace is where a notification's token is sealed for.
func tokenPlace(id core.ID) string { return "notification/token/" + string(id) }

func (s *Service) apply(n *Notification, in Input) error {
	set := func(dst *string, v *string) {
		if v != nil {
			*dst = *v
		}
	}
	set(&n.Name, in.Name)
	set(&n.URL, in.URL)
	if in.Enabled != nil {
		n.Enabled = *in.Enabled
	}
	if in.Triggers != nil {
		n.Triggers = *in.Triggers
	}
	if in.Emails != nil {
		n.Emails = *in.Emails
	}
	if in.Users != nil {
		n.Users = *in.Users
	}
	n.Name = strings.TrimSpace(n.Name)
	switch {
	case n.Name == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("name")
	case len(n.Name) > maxName || !utf8.ValidString(n.Name) || strings.ContainsRune(n.Name, 0):
		return core.Errorf(core.Invalid, "is too long (maximum is %d bytes of text)", maxName).InField("name")
	case !slices.Contains([]string{Generic, Slack, Teams, Email}, n.Destination):
		return core.Errorf(core.Invalid, "is not included in the list: generic, slack, microsoft-teams, email").InField("destination-type")
	case n.Destination != Email && n.URL == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("url")
	case len(n.Triggers) > maxList || len(n.Emails) > maxList || len(n.Users) > maxList:
		return core.Errorf(core.Invalid, "names too many triggers or receivers").InField("triggers")
	}
	if n.Destination == Email {
		n.URL = ""
	} else if err := outbound.ValidURL(n.URL); err != nil {
		return core.Wrap(err, core.Invalid, core.Message(err)).InField("url")
	}
	for _, t := range n.Triggers {
		if !slices.Contains(triggers(), t) {
			return core.Errorf(core.Invalid, "%.80q is not a trigger", t).InField("triggers")
		}
	}
	slices.Sort(n.Triggers)
	n.Triggers = slices.Compact(n.Triggers)
	for _, e := range n.Emails {
		if a, err := mail.ParseAddress(e); err != nil || a.Address != e {
			return core.Errorf(core.Invalid, "%.80q is not an email address", e).InField("email-addresses")
		}
	}
	if in.Token != nil {
		if len(*in.Token) > maxToken {
			return core.Errorf(core.Invalid, "is too long (maximum is %d bytes)", maxToken).InField("token")
		}
		n.token = nil
		if *in.Token != "" {
			n.token = s.Box.Seal(tokenPlace(n.ID), []byte(*in.Token))
		}
	}
	return nil
}

// may checks that the subject of ctx manages the notifications of what n is
// about. An organization's token does not: notifications are for people.
func may(ctx context.Context, tx *db.Tx, n Notification) error {
	if authz.Subject(ctx).Kind == core.OrgKind {
		return authz.ErrHidden()
	}
	switch {
	case n.WorkspaceID != "":
		return authz.Workspace(ctx, tx, n.WorkspaceID, core.ManageNotifications)
	case n.ProjectID != "":
		return authz.Project(ctx, tx, n.ProjectID, core.UpdateProject)
	}
	return authz.Org(ctx, tx, n.OrgID, core.ManageTeams)
}

// subject fills in the organization of what n is about.
func subject(ctx context.Context, tx *db.Tx, n *Notification) (err error) {
	q := map[bool]string{n.WorkspaceID != "": `SELECT org_id FROM workspace WHERE id = $1`, n.ProjectID != "": `SELECT org_id FROM project WHERE id = $1`, n.TeamID != "": `SELECT org_id FROM team WHERE id = $1`}[true]
	n.OrgID, err = db.One(ctx, tx, db.ID, q, n.WorkspaceID+n.ProjectID+n.TeamID)
	return err
}

// usersBelong refuses receivers who are neither members of the organization nor
// invited to it.
func usersBelong(ctx context.Context, tx *db.Tx, n Notification) error {
	for _, u := range n.Users {
		k, err := db.One(ctx, tx, db.Int, `SELECT count(*) FROM membership WHERE org_id = $1 AND user_id = $2`, n.OrgID, u)
		if err != nil {
			return err
		}
		if k == 0 {
			return core.Errorf(core.Invalid, "%.40s is not a member of the organization", u).InField("users")
		}
	}
	return nil
}

// Create makes a notification for what about names: a workspace, a project or
// a team.
func (s *Service) Create(ctx context.Context, about Notification, in Input) (n Notification, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n = Notification{ID: core.NewID("nc"), WorkspaceID: about.WorkspaceID, ProjectID: about.ProjectID, TeamID: about.TeamID, CreatedAt: tx.Now(), UpdatedAt: tx.Now()}
		if err := subject(ctx, tx, &n); err != nil {
			return err
		}
		if err := may(ctx, tx, n); err != nil {
			return err
		}
		if in.Destination != nil {
			n.Destination = *in.Destination
		}
		if err := s.apply(&n, in); err != nil {
			return err
		}
		if err := usersBelong(ctx, tx, n); err != nil {
			return err
		}
		if err := insert(ctx, tx, n); err != nil {
			return err
		}
		if err := n.note(ctx, tx, "create"); err != nil {
			return err
		}
		return s.greet(ctx, tx, n, false)
	})
	if err == nil {
		s.wake(ctx)
	}
	return n, err
}

// Get returns a notification that the subject of ctx manages.
func (s *Service) Get(ctx context.Context, id core.ID) (n Notification, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err = s.getIn(ctx, tx, id)
		return err
	})
	return n, err
}

func (s *Service) getIn(ctx context.Context, tx *db.Tx, id core.ID) (n Notification, err error) {
	if n, err = load(ctx, tx, id); err == nil {
		err = may(ctx, tx, n)
	}
	return n, err
}

// Update changes a notification; what it is about and where it goes by kind
// stay.
func (s *Service) Update(ctx context.Context, id core.ID, in Input) (n Notification, err error) {
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if n, err = s.getIn(ctx, tx, id); err != nil {
			return err
		}
		if in.Users == nil && n.Destination == Email {
			n.Users = nil // the receivers are named anew each time, as on the original platform
		}
		was := n.Enabled && (in.URL == nil || *in.URL == n.URL)
		if err := s.apply(&n, in); err != nil {
			return err
		}
		if err := usersBelong(ctx, tx, n); err != nil {
			return err
		}
		n.UpdatedAt = tx.Now()
		if err := update(ctx, tx, n); err != nil {
			return err
		}
		if err := n.note(ctx, tx, "update"); err != nil {
			return err
		}
		return s.greet(ctx, tx, n, was)
	})
	if err == nil {
		s.wake(ctx)
	}
	return n, err
}

// Delete removes a notification and the log of its deliveries.
func (s *Service) Delete(ctx context.Context, id core.ID) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := s.getIn(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := subject(ctx, tx, &n); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM notification WHERE id = $1`, id); err != nil {
			return err
		}
		return n.note(ctx, tx, "destroy")
	})
}

// note adds what was done to the notification to its organization's trail. The
// address may carry a secret, so it stays out.
func (n Notification) note(ctx context.Context, tx *db.Tx, action string) error {
	return audit.Add(ctx, tx, n.OrgID, "notification_configuration", n.ID, action,
		map[string]any{"name": n.Name, "destination": n.Destination, "enabled": n.Enabled, "on": n.WorkspaceID + n.ProjectID + n.TeamID})
}

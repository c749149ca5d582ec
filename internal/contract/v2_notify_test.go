package contract

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// heard is a message that came to a receiver.
type heard struct {
	signature string
	raw       []byte
	RunID     string `json:"run_id"`
	Workspace string `json:"workspace_name"`
	Config    string `json:"notification_configuration_id"`
	Did       []struct {
		Trigger string `json:"trigger"`
		Status  string `json:"run_status"`
	} `json:"notifications"`
}

// receiver answers 500 to the first call and 200 after.
func receiver(t *testing.T) (url string, got chan heard) {
	got = make(chan heard, 100)
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(500)
			return
		}
		h := heard{signature: r.Header.Get("X-Tfe-Notification-Signature")}
		h.raw, _ = io.ReadAll(r.Body)
		_ = json.Unmarshal(h.raw, &h)
		got <- h
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func TestV2NotificationsAreDelivered(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn, "--outbound-allow=127.0.0.1")
		w := &v2World{t: t, s: s, c: goTFE(t, s, servertest.AdminToken), org: "acme"}
		ctx := t.Context()
		if _, err := w.c.Organizations.Create(ctx, tfe.OrganizationCreateOptions{Name: &w.org, Email: tfe.String("ops@example.com")}); err != nil {
			t.Fatal(err)
		}
		ws := w.workspace("loud", tfe.WorkspaceCreateOptions{})
		w.upload(ws, "output \"x\" {\n  value = 1\n}\n", tfe.ConfigurationVersionCreateOptions{})
		url, got := receiver(t)
		nc, err := w.c.NotificationConfigurations.Create(ctx, ws.ID, tfe.NotificationConfigurationCreateOptions{
			DestinationType: tfe.NotificationDestination(tfe.NotificationDestinationTypeGeneric), Name: tfe.String("hook"), URL: &url, Token: tfe.String("s3cret"), Enabled: tfe.Bool(true),
			Triggers: []tfe.NotificationTriggerType{tfe.NotificationTriggerCreated, tfe.NotificationTriggerNeedsAttention, tfe.NotificationTriggerCompleted},
		})
		if err != nil || nc.Token != "" || !nc.Enabled {
			t.Fatalf("%+v, %v", nc, err)
		}
		run := w.run(ws, tfe.RunCreateOptions{})
		w.await(run.ID, tfe.RunPlanned)
		if err := w.c.Runs.Apply(ctx, run.ID, tfe.RunApplyOptions{}); err != nil {
			t.Fatal(err)
		}
		// Each wanted fact comes once, whatever the first answer was; others do not.
		want := map[string]string{"verification": "", "run:created": "pending", "run:needs_attention": "planned", "run:completed": "applied"}
		for len(want) > 0 {
			select {
			case h := <-got:
				mac := hmac.New(sha512.New, []byte("s3cret"))
				mac.Write(h.raw)
				if h.signature != hex.EncodeToString(mac.Sum(nil)) {
					t.Errorf("signature %q", h.signature)
				}
				if len(h.Did) != 1 {
					t.Fatalf("%s", h.raw)
				}
				status, ok := want[h.Did[0].Trigger]
				if !ok || h.Did[0].Status != status || h.Config != nc.ID || h.Did[0].Trigger != "verification" && (h.RunID != run.ID || h.Workspace != "loud") {
					t.Errorf("unexpected %s", h.raw)
				}
				delete(want, h.Did[0].Trigger)
			case <-time.After(20 * time.Second):
				t.Fatalf("did not come: %v", want)
			}
		}
		w.await(run.ID, tfe.RunApplied)
		if _, err := w.c.NotificationConfigurations.Verify(ctx, nc.ID); err != nil {
			t.Error(err)
		}
		if ds := deliveries(t, s, nc.ID); len(ds) != 5 || ds[0]["code"] != "200" || ds[0]["successful"] != "true" {
			t.Errorf("deliveries: %v", ds)
		}

		// Wrong inputs are refused with the attribute that is wrong.
		admin := s.Admin
		for field, a := range map[string]map[string]any{
			"name": {"name": " "}, "url": {"url": "ftp://x"}, "triggers": {"triggers": []string{"run:sung"}}, "enabled": {"enabled": "yes"},
		} {
			refused2(t, admin.Do(t, "PATCH", "/api/v2/notification-configurations/"+nc.ID, servertest.Doc("notification-configurations", a)), field)
		}
		refused2(t, admin.Do(t, "POST", "/api/v2/workspaces/"+ws.ID+"/notification-configurations", servertest.Doc("notification-configurations", map[string]any{"name": "n", "destination-type": "pigeon"})), "destination-type")

		// Only administrators of the workspace know of them.
		for _, level := range []string{"read", "plan", "write"} {
			u := s.User(t, "ann-"+level)
			s.Access(t, w.org, "loud", u, level)
			c := goTFE(t, s, u.Token)
			_, err1 := c.NotificationConfigurations.Read(ctx, nc.ID)
			_, err2 := c.NotificationConfigurations.List(ctx, ws.ID, nil)
			if !errors.Is(err1, tfe.ErrResourceNotFound) || !errors.Is(err2, tfe.ErrResourceNotFound) {
				t.Errorf("%s: %v, %v", level, err1, err2)
			}
		}
		if err := w.c.NotificationConfigurations.Delete(ctx, nc.ID); err != nil {
			t.Error(err)
		}
	})
}

// deliveries is the log of a notification, newest first. The vendor's client
// does not decode it.
func deliveries(t *testing.T, s *servertest.Server, id string) []map[string]any {
	t.Helper()
	var out struct {
		Data struct {
			Attributes struct {
				Log []map[string]any `json:"delivery-responses"`
			}
		}
	}
	s.Admin.Get(t, "/api/v2/notification-configurations/"+id).Want(t, 200).JSON(t, &out)
	return out.Data.Attributes.Log
}

func refused2(t *testing.T, a servertest.Answer, field string) {
	t.Helper()
	if a.Want(t, 422); !strings.Contains(string(a.Body), "/data/attributes/"+field) {
		t.Errorf("%s: %s", field, a.Body)
	}
}

// Where the operator says nothing, no private address is called.
func TestV2NotificationsStayOutside(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, t.TempDir()+"/x.db")
	w := &v2World{t: t, s: s, c: goTFE(t, s, servertest.AdminToken), org: "acme"}
	if _, err := w.c.Organizations.Create(t.Context(), tfe.OrganizationCreateOptions{Name: &w.org, Email: tfe.String("ops@example.com")}); err != nil {
		t.Fatal(err)
	}
	ws := w.workspace("quiet", tfe.WorkspaceCreateOptions{})
	url, got := receiver(t)
	nc, err := w.c.NotificationConfigurations.Create(t.Context(), ws.ID, tfe.NotificationConfigurationCreateOptions{
		DestinationType: tfe.NotificationDestination(tfe.NotificationDestinationTypeGeneric), Name: tfe.String("hook"), URL: &url, Enabled: tfe.Bool(false),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.c.NotificationConfigurations.Verify(t.Context(), nc.ID); err == nil || !strings.Contains(err.Error(), "private network") {
			t.Errorf("verify: %v", err)
		}
	}
	if ds := deliveries(t, s, nc.ID); len(ds) != 2 || ds[0]["successful"] != "false" || len(got) > 0 {
		t.Errorf("deliveries: %v", ds)
	}
}

package contract

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// listener is a receiver that was written from the vendor's page on notifications:
// it believes only what is signed with its token.
func listener(t *testing.T, token string) (address string, next func(want string)) {
	t.Helper()
	got := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mac := hmac.New(sha512.New, []byte(token))
		mac.Write(body)
		var m struct {
			PayloadVersion int    `json:"payload_version"`
			RunID          string `json:"run_id"`
			Workspace      string `json:"workspace_name"`
			Notifications  []struct{ Message, Trigger string }
		}
		if err != nil || !hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(r.Header.Get("X-TFE-Notification-Signature"))) || json.Unmarshal(body, &m) != nil || m.PayloadVersion != 1 || len(m.Notifications) != 1 {
			t.Errorf("not believed: %v %s", r.Header, body)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if m.Notifications[0].Trigger != "verification" {
			got <- m.Notifications[0].Trigger
		}
	}))
	t.Cleanup(srv.Close)
	early := map[string]int{}
	return srv.URL, func(want string) {
		t.Helper()
		for end := time.After(40 * time.Second); early[want] == 0; {
			select {
			case g := <-got: // deliveries overtake one another
				early[g]++
			case <-end:
				t.Fatalf("%s was not told; told were %v", want, early)
			}
		}
		early[want]--
	}
}

// The six events of 2017 and today's, by a signed webhook and by mail with the
// log; what destroys itself is told of before and after.
func TestTheEventsOf2017(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn, "--outbound-allow=127.0.0.1")
		ann := s.As(servertest.AdminToken)
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		url, next := listener(t, "a token")
		port, letter := mailServer(t)
		ann.Do(t, "PATCH", "/api/v2/admin/smtp-settings", servertest.Doc("smtp-settings", map[string]any{"enabled": true, "host": "127.0.0.1", "port": port, "sender": "il@example.com", "auth": "none"})).Want(t, 200)
		tell := func(a map[string]any) {
			t.Helper()
			a["name"], a["enabled"] = "n", true
			ann.Do(t, "POST", "/api/v2/workspaces/"+ws+"/notification-configurations", servertest.Doc("notification-configurations", a)).Want(t, 201)
		}
		tell(map[string]any{"destination-type": "generic", "url": url, "token": "a token", "triggers": []string{"run:created", "run:planning", "run:needs_attention", "run:confirmed", "run:discarded", "run:applying", "run:completed", "run:errored",
			"workspace:auto_destroy_reminder", "workspace:auto_destroy_run_results"}})
		tell(map[string]any{"destination-type": "email", "email-addresses": []string{"ops@example.com"}, "triggers": []string{"run:completed"}})

		ann.Upload(t, ws, map[string]string{"main.tf": `resource "terraform_data" "a" {}`}, map[string]any{"auto-queue-runs": false})
		r := ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "first"}).ID, "planned")
		for _, e := range []string{"run:created", "run:planning", "run:needs_attention"} {
			next(e)
		}
		ann.Confirm(t, r.ID)
		ann.WaitRun(t, r.ID, "applied")
		for _, e := range []string{"run:confirmed", "run:applying", "run:completed"} {
			next(e)
		}
		select {
		case l := <-letter:
			for _, want := range []string{"To: ops@example.com", "Apply complete! Resources: 1 added", "The end of the log", "/app/acme/prod/runs/" + r.ID} {
				if !strings.Contains(unfolded(l), want) {
					t.Errorf("the letter has no %q: %s", want, l)
				}
			}
		case <-time.After(40 * time.Second):
			t.Fatal("no letter came")
		}
		r = ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "second", "replace-addrs": []string{"terraform_data.a"}}).ID, "planned")
		ann.Discard(t, r.ID)
		next("run:discarded")
		ann.Upload(t, ws, map[string]string{"main.tf": `resource "nonsense`}, map[string]any{"auto-queue-runs": false})
		ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "third"}).ID, "errored")
		next("run:errored")

		ann.Upload(t, ws, map[string]string{"main.tf": `resource "terraform_data" "a" {}`}, map[string]any{"auto-queue-runs": false})
		ann.Do(t, "PATCH", "/api/v2/workspaces/"+ws, servertest.Doc("workspaces", map[string]any{"auto-destroy-at": time.Now().Add(20 * time.Hour).UTC().Format(time.RFC3339)})).Want(t, 200)
		next("workspace:auto_destroy_reminder")
		if err := s.App.DB().Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE workspace SET auto_destroy_at = $2 WHERE id = $1`, ws, time.Now().Add(-time.Second))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		next("workspace:auto_destroy_run_results")
	})
}

// unfolded reads the text of a letter, which travels as base64.
func unfolded(l string) string {
	head, body, _ := strings.Cut(l, "\n\n")
	b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
	if err != nil {
		return l
	}
	return head + "\n\n" + string(b)
}

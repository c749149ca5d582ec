package contract

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// postOffice is a mail server for many letters, which refuses the first so
// many for the moment.
func postOffice(t *testing.T, refusals int32) (port int, letters <-chan string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	out := make(chan string, 100)
	var left atomic.Int32
	left.Store(refusals)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				say := func(line string) { _, _ = fmt.Fprint(c, line+"\r\n") }
				say("220 here")
				var b strings.Builder
				in := false
				for sc := bufio.NewScanner(c); sc.Scan(); {
					line := sc.Text()
					switch {
					case in && line == ".":
						in = false
						head, body, _ := strings.Cut(b.String(), "\n\n")
						text, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
						if err != nil {
							t.Errorf("a letter that cannot be read: %v", err)
						}
						out <- head + "\n\n" + string(text)
						say("250 taken")
					case in:
						b.WriteString(line + "\n")
					case strings.HasPrefix(line, "EHLO"):
						say("250 here")
					case line == "DATA" && left.Add(-1) >= 0:
						say("451 later")
					case line == "DATA":
						in = true
						say("354 go on")
					case line == "QUIT":
						say("221 bye")
						return
					default:
						if strings.HasPrefix(line, "RCPT") {
							b.WriteString(line + "\n")
						}
						say("250 fine")
					}
				}
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port, out
}

// People hear of what they subscribed to, at once or in a digest, as long as
// they may read it; a letter that could not be sent is sent again.
func TestPersonalLetters(t *testing.T) {
	t.Parallel()
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		s := servertest.Start(t, dsn)
		ann := s.As(servertest.AdminToken)
		ann.Org(t, "acme")
		ws := ann.Workspace(t, "acme", "prod", nil)
		port, letters := postOffice(t, 1)
		ann.Do(t, "PATCH", "/api/v2/admin/smtp-settings", servertest.Doc("smtp-settings", map[string]any{"enabled": true, "host": "127.0.0.1", "port": port, "sender": "il@example.com", "auth": "none"})).Want(t, 200)
		mia, joe, kim, eve := s.User(t, "mia"), s.User(t, "joe"), s.User(t, "kim"), s.User(t, "eve")
		s.Access(t, "acme", "prod", mia, "read")
		s.Access(t, "acme", "prod", joe, "write")
		s.Access(t, "acme", "prod", kim, "read")
		ask := func(who *servertest.Client, want int, a map[string]any) string {
			t.Helper()
			r := who.Do(t, "POST", "/api/v2/account/subscriptions", servertest.Doc("subscriptions", a)).Want(t, want)
			if want != 201 {
				return ""
			}
			return r.One(t).ID
		}
		events := []string{"run:created", "run:needs_attention"}
		sub := ask(mia, 201, map[string]any{"organization": "acme", "workspace": "prod", "triggers": []string{"run:needs_attention"}})
		ask(mia, 201, map[string]any{"organization": "acme", "triggers": events, "cadence": "hourly"}) // her own of the workspace goes before it
		ask(joe, 201, map[string]any{"organization": "acme", "triggers": events, "cadence": "hourly"})
		ask(kim, 201, map[string]any{"organization": "acme", "workspace": "prod", "triggers": events, "cadence": "daily"})
		ask(eve, 404, map[string]any{"organization": "acme", "workspace": "prod", "triggers": events})
		ask(mia, 422, map[string]any{"organization": "acme", "workspace": "prod", "triggers": events})
		for _, bad := range []map[string]any{{"triggers": []string{}}, {"triggers": []string{"team:change_request"}}, {"cadence": "weekly"}} {
			mia.Do(t, "PATCH", "/api/v2/subscriptions/"+sub, servertest.Doc("subscriptions", bad)).Want(t, 422)
		}
		kim.Get(t, "/api/v2/subscriptions/"+sub).Want(t, 404)
		kim.Do(t, "DELETE", "/api/v2/subscriptions/"+sub, nil).Want(t, 404)

		ann.Upload(t, ws, map[string]string{"main.tf": `resource "terraform_data" "a" {}`}, map[string]any{"auto-queue-runs": false})
		run := ann.WaitRun(t, ann.Queue(t, ws, map[string]any{"message": "first line\nsecond"}).ID, "planned").ID
		next := func() string {
			t.Helper()
			select {
			case l := <-letters:
				return l
			case <-time.After(100 * time.Second):
				t.Fatal("no letter")
				return ""
			}
		}
		link := "/app/acme/prod/runs/" + run
		if l := next(); !strings.Contains(l, "mia@example.com") || !strings.Contains(l, "Run Needs Attention: acme/prod") || !strings.Contains(l, link) || !strings.Contains(l, "first line") {
			t.Errorf("the letter at once: %s", l)
		}
		log := func(who *servertest.Client) []servertest.Resource {
			return who.Get(t, "/api/v2/account/letters").List(t)
		}
		until := func(what string, ok func() bool) {
			t.Helper()
			for end := time.Now().Add(100 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal(what)
				}
			}
		}
		until("mia's log has no letter that was sent at the second attempt", func() bool {
			ls := log(mia)
			return len(ls) == 1 && ls[0].Str("status") == "sent" && ls[0].Int("attempts") == 2
		})
		if len(log(joe))+len(log(kim)) != 0 {
			t.Error("a digest before its time")
		}

		// Kim may read it no more; a day goes by.
		err := s.App.DB().Do(context.Background(), func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Exec(ctx, `DELETE FROM team_member WHERE user_id = $1`, kim.ID); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE subscription_event SET created_at = $1`, tx.Now().Add(-26*time.Hour))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		l := next()
		if !strings.Contains(l, "joe@example.com") || strings.Count(l, link) != 3 || !strings.Contains(l, "Waiting for you") || !strings.Contains(l, "Run Created: first line") || strings.Contains(l, "second") {
			t.Errorf("the digest: %s", l)
		}
		until("kim's letter is not given up", func() bool {
			ls := log(kim)
			return len(ls) == 1 && ls[0].Str("status") == "failed" && strings.Contains(ls[0].Str("answer"), "read any more")
		})
		select {
		case l := <-letters:
			t.Errorf("one letter too many: %s", l)
		default:
		}
		if len(log(joe)) != 1 || len(log(mia)) != 1 {
			t.Errorf("logs: %v %v", log(joe), log(mia))
		}
		if n := len(kim.Get(t, "/api/v2/account/subscriptions").List(t)); n != 0 {
			t.Errorf("kim sees %d subscriptions to what is hidden from them", n)
		}

		mia.Do(t, "DELETE", "/api/v2/subscriptions/"+sub, nil).Want(t, 204)
		mia.Get(t, "/api/v2/subscriptions/"+sub).Want(t, 404)
		if n := len(mia.Get(t, "/api/v2/account/subscriptions").List(t)); n != 1 {
			t.Errorf("%d subscriptions are left", n)
		}
	})
}

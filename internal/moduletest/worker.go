package moduletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/executor"
	"interlock/internal/tarball"
	"interlock/internal/variable"
)

// Worker runs the tests that wait, one at a time: they are the side work of a
// node whose runners plan and apply.
type Worker struct {
	*Service
	Exec          *executor.Executor
	Catalog       *executor.Catalog
	Installer     *executor.Installer
	DefaultEngine func(hint string) string
	Node          string // the same after a restart
	Root          string // directory of the areas
	// Grace is how long an engine may take to destroy what its tests have made
	// when a person or the end of the server asks it to stop.
	Grace time.Duration
}

const (
	leaseTTL   = time.Minute
	renewEvery = 5 * time.Second
	pollEvery  = 5 * time.Second
	timeLimit  = time.Hour
)

// Run works until ctx ends. Tests that were cut off with their server are over:
// nobody knows what they have made, so they do not run again by themselves.
func (w *Worker) Run(ctx context.Context) {
	if err := w.Exec.Clear(w.Root); err != nil {
		slog.WarnContext(ctx, "clear the areas of module tests", "err", err)
	}
	if err := w.abandon(ctx, w.Node); err != nil && ctx.Err() == nil {
		slog.WarnContext(ctx, "end module tests of the last start", "err", err)
	}
	hints, stop := w.Bus.Listen(dispatch)
	defer stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		t, err := w.claim(ctx)
		if err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "claim a module test", "err", err)
		}
		if t.ID != "" {
			w.work(ctx, t)
			continue
		}
		select {
		case <-hints:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// abandon ends tests of a node that has started anew, and those of any node
// whose lease is over.
func (w *Worker) abandon(ctx context.Context, node string) error {
	return w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE module_test SET status = 'errored', outcome = 'error', reason = $3, ended_at = $2, epoch = epoch + 1
			WHERE status = 'running' AND (node = $1 OR lease_until < $2)`, node, tx.Now(),
			"The server stopped while the tests ran. What they had made may still exist.")
		return err
	})
}

func (w *Worker) claim(ctx context.Context) (t Test, err error) {
	var waiting []core.ID
	err = w.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		waiting, err = db.All(ctx, tx, db.ID, `SELECT id FROM module_test WHERE status = 'queued' OR status = 'running' AND lease_until < $1 ORDER BY created_at LIMIT 8`, tx.Now())
		return err
	})
	if err != nil || len(waiting) == 0 {
		return Test{}, err
	}
	if err := w.abandon(ctx, ""); err != nil {
		return Test{}, err
	}
	for _, id := range waiting {
		err = w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			n, err := tx.Exec(ctx, `UPDATE module_test SET status = 'running', node = $2, epoch = epoch + 1, started_at = $3, lease_until = $4 WHERE id = $1 AND status = 'queued'`,
				id, w.Node, tx.Now(), tx.Now().Add(leaseTTL))
			if err != nil || n == 0 {
				return err
			}
			t, err = db.One(ctx, tx, scan, `SELECT `+columns+` FROM module_test t WHERE t.id = $1`, id)
			return err
		})
		if err != nil || t.ID != "" {
			break
		}
	}
	if err == nil && t.ID != "" {
		w.Bus.Publish(topic(t.ID))
	}
	return t, err
}

// work runs one test to its end.
func (w *Worker) work(stop context.Context, t Test) {
	ctx := context.WithoutCancel(stop)
	log := &sink{s: w.Service, t: t}
	j := &watch{interrupt: make(chan struct{}), kill: make(chan struct{}), done: make(chan struct{}), quit: make(chan struct{})}
	go w.watch(stop, t, log, j)
	res, err := w.test(ctx, t, log, j)
	close(j.done)
	<-j.quit
	if err != nil && core.KindOf(err) == core.Internal {
		slog.ErrorContext(ctx, "module test failed on our side", "test", t.ID, "err", err)
		err = errors.New("the platform could not run the tests; the server's log knows more")
	}
	end := Test{Status: Finished, Outcome: res.Status, Passed: int64(res.Passed), Failed: int64(res.Failed), Errored: int64(res.Errored), Skipped: int64(res.Skipped)}
	switch {
	case j.over:
		return // somebody else has ended it
	case res.Canceled && j.late:
		end.Status, end.Reason = Errored, fmt.Sprintf("The tests took longer than %s and were stopped.", timeLimit)
	case res.Canceled && stop.Err() != nil && !j.asked:
		end.Status, end.Reason = Errored, "The server was stopped and asked the tests to end."
	case res.Canceled:
		end.Status = Canceled
	case res.Status == "":
		end.Status = Errored
		if err != nil {
			end.Reason = core.Message(err)
			line, _ := json.Marshal(map[string]string{"@level": "error", "@message": "Error: " + end.Reason, "@module": "interlock", "type": "log"})
			_, _ = log.Write(append(line, '\n'))
		}
	}
	if end.Outcome == "" {
		end.Outcome = map[bool]string{true: "error", false: "pending"}[end.Status == Errored]
	}
	w.finish(ctx, t, log, end)
}

// finish insists for a while: a database that is away must not lose the end.
func (w *Worker) finish(ctx context.Context, t Test, log *sink, end Test) {
	for wait, began := 100*time.Millisecond, time.Now(); time.Since(began) < 10*time.Minute; wait = min(2*wait, 5*time.Second) {
		err := log.flush(ctx)
		if err == nil {
			err = w.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE module_test SET status = $3, outcome = $4, passed = $5, failed = $6, errored = $7, skipped = $8, reason = $9, ended_at = $10
					WHERE id = $1 AND epoch = $2 AND status = 'running'`, t.ID, t.Epoch, end.Status, end.Outcome, end.Passed, end.Failed, end.Errored, end.Skipped, end.Reason, tx.Now())
				return err
			})
		}
		if err == nil || core.KindOf(err) == core.Gone {
			w.Bus.Publish(topic(t.ID))
			return
		}
		slog.WarnContext(ctx, "report a module test; trying again", "test", t.ID, "err", err)
		time.Sleep(wait)
	}
}

// watch is what goes on beside the engine.
type watch struct {
	interrupt, kill, done, quit chan struct{}
	asked, over, late           bool // read after quit is closed
}

// watch renews the lease, stores the log, and passes on a wish to stop.
func (w *Worker) watch(stop context.Context, t Test, log *sink, j *watch) {
	defer close(j.quit)
	ctx := context.WithoutCancel(stop)
	news, end := w.Bus.Listen(topic(t.ID))
	defer end()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(timeLimit)
	defer limit.Stop()
	halted, renewed, looked := stop.Done(), time.Now(), time.Now()
	interrupt, kill := j.interrupt, j.kill
	ask := func() {
		if interrupt != nil {
			close(interrupt)
			interrupt = nil
		}
	}
	for {
		select {
		case <-j.done:
			return
		case <-halted:
			halted = nil
			ask()
			continue
		case <-limit.C:
			j.late = true
			ask()
			continue
		case <-news:
		case <-tick.C:
			if err := log.flush(ctx); core.KindOf(err) == core.Gone {
				j.over = true
			}
			if time.Since(looked) < time.Second {
				if !j.over {
					continue
				}
			}
		}
		looked = time.Now()
		cancel, err := w.look(ctx, t, time.Since(renewed) >= renewEvery)
		if err == nil && time.Since(renewed) >= renewEvery {
			renewed = time.Now()
		}
		if core.KindOf(err) == core.Gone || err != nil && time.Since(renewed) > leaseTTL-15*time.Second {
			j.over = true
		}
		if j.over || cancel == "forced" {
			if kill != nil {
				close(kill)
				kill = nil
			}
		}
		if cancel != "" {
			j.asked = true
			ask()
		}
	}
}

// look reads whether a person wants the test to stop, and renews the lease.
func (w *Worker) look(ctx context.Context, t Test, renew bool) (cancel string, err error) {
	f := func(ctx context.Context, tx *db.Tx) error {
		if renew {
			if _, err := tx.Exec(ctx, `UPDATE module_test SET lease_until = $3 WHERE id = $1 AND epoch = $2 AND status = 'running'`, t.ID, t.Epoch, tx.Now().Add(leaseTTL)); err != nil {
				return err
			}
		}
		cancel, err = db.One(ctx, tx, text, `SELECT cancel FROM module_test WHERE id = $1 AND epoch = $2 AND status = 'running'`, t.ID, t.Epoch)
		if core.KindOf(err) == core.NotFound {
			return core.Errorf(core.Gone, "the test is no longer this worker's")
		}
		return err
	}
	if renew {
		return cancel, w.DB.DoSoon(ctx, f)
	}
	return cancel, w.DB.View(ctx, f)
}

// test prepares an area and lets the engine at it.
func (w *Worker) test(ctx context.Context, t Test, log *sink, j *watch) (res executor.TestResult, err error) {
	var object string
	var o Options
	var vars []variable.Variable
	err = w.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if object, err = db.One(ctx, tx, text, `SELECT object FROM module_test_config WHERE id = $1`, t.ConfigID); err != nil {
			return err
		}
		sealed, err := db.One(ctx, tx, func(r db.Row) (b []byte, err error) { return b, r.Scan(&b) }, `SELECT options FROM module_test WHERE id = $1`, t.ID)
		if err != nil {
			return err
		}
		plain, err := w.Box.Open(optionsPlace(t.ID), sealed)
		if err == nil {
			err = json.Unmarshal(plain, &o)
		}
		if err == nil {
			vars, err = w.variables(ctx, tx, t.ModuleID)
		}
		return err
	})
	if err != nil {
		return res, err
	}
	area, err := executor.OpenArea(w.Root, string(t.ID))
	if err != nil {
		return res, err
	}
	defer func() { _ = area.Remove() }()
	body, err := w.Blobs.Get(ctx, object)
	if err != nil {
		return res, err
	}
	_, err = tarball.Unpack(ctx, body, area.ConfigDir(), limits())
	_ = body.Close()
	if err != nil {
		return res, err
	}
	engine, err := w.Catalog.Find(ctx, w.DefaultEngine(""), "")
	if err != nil {
		return res, err
	}
	spec := executor.TestSpec{Filters: o.Filters, Directory: o.Directory, Verbose: o.Verbose, Spec: executor.Spec{
		Area: area, Engine: engine, Env: map[string]string{}, TFVars: map[string]executor.Value{}, RunVars: o.Variables, Log: log,
		Parallelism: o.Parallelism, Interrupt: j.interrupt, Kill: j.kill, Grace: w.Grace,
	}}
	for _, v := range vars {
		if v.Category == variable.Env {
			spec.Env[v.Key] = v.Value
		} else {
			spec.TFVars[v.Key] = executor.Value{Value: v.Value, HCL: v.HCL}
		}
		if v.Sensitive {
			spec.Secrets = append(spec.Secrets, v.Value)
		}
	}
	spec.Providers = w.Installer.For(spec.Env)
	if w.Installer.Secret != "" {
		spec.Secrets = append(spec.Secrets, w.Installer.Secret)
	}
	if err := os.MkdirAll(w.Root, 0o700); err != nil {
		return res, err
	}
	return w.Exec.Test(ctx, spec)
}

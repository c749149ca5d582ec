package chaos_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// A cell is one run, held at one moment, and one fault.
type cell struct {
	in      *installation
	moment  moment
	fault   string
	ws      *workspace
	config  string // id of the configuration version that is being uploaded
	run     string
	plan    string
	apply   string
	key     string // of the point
	engine  int    // the process that is stopped
	release func() // of the ledger
	missed  string // why it was not held
	said    int    // the status of the action's answer
	again   []int  // the answers to the second apply requests
	status  string // how it ended, with the reason
	bad     []string
}

func (c *cell) wrong(format string, args ...any) { c.bad = append(c.bad, fmt.Sprintf(format, args...)) }

func (c *cell) String() string {
	return fmt.Sprintf("%s/%d servers/%s: %s while %s", c.in.db, c.in.setup.servers, map[bool]string{true: "remote", false: "embedded"}[c.in.remote], c.fault, c.moment.name)
}

// begin makes the cell's run as far as it can wait for its turn.
func (c *cell) begin(t *testing.T) {
	in := c.in
	s := in.live()
	c.ws = in.space(t, !slices.Contains([]string{"planned", "acted", "apply_queued"}, c.moment.point))
	cv := one(t, s.must(t, "POST", "/api/v2/workspaces/"+c.ws.id+"/configuration-versions", servertest.Doc("configuration-versions", map[string]any{"auto-queue-runs": false})))
	tf := in.led.chain(2, 20*time.Millisecond)
	if c.moment.hold == inEngine {
		tf += busy(3) // or it is over before it is found
	}
	files := servertest.Archive(t, map[string]string{"main.tf": tf})
	c.config, c.release = cv.ID, func() {}
	if c.moment.hold == atConfig {
		c.key = c.config
		in.arm(c.moment.point, c.key)
		go func() { _, _, _ = s.ask("PUT", cv.Str("upload-url"), files) }()
		return
	}
	s.must(t, "PUT", cv.Str("upload-url"), files)
	s.must(t, "POST", "/api/v2/workspaces/"+c.ws.id+"/actions/lock", map[string]string{})
	if c.moment.hold == atSpace {
		c.key = c.ws.id
		in.arm(c.moment.point, c.key)
		go func() {
			_, _, _ = s.ask("POST", "/api/v2/runs", servertest.Doc("runs", nil, "workspace", "workspaces", c.ws.id))
		}()
		return
	}
	c.know(t, one(t, s.must(t, "POST", "/api/v2/runs", servertest.Doc("runs", nil, "workspace", "workspaces", c.ws.id))))
	switch c.moment.hold {
	case atRun:
		c.key = c.run
	case atPlan:
		c.key = c.plan
		in.arm(c.moment.point, c.key)
	case atApply:
		c.key = c.apply
		in.arm(c.moment.point, c.key)
	case inLedger:
		c.release = in.led.hold(c.run, c.moment.point)
	}
}

func (c *cell) know(t *testing.T, r servertest.Resource) {
	c.run, c.plan, c.apply = r.ID, r.Rel("plan"), r.Rel("apply")
}

func (c *cell) unlock(t *testing.T) {
	c.in.live().must(t, "POST", "/api/v2/workspaces/"+c.ws.id+"/actions/unlock", map[string]string{})
}

func (c *cell) now() string {
	_, b, err := c.in.live().ask("GET", "/api/v2/runs/"+c.run, nil)
	var d struct{ Data servertest.Resource }
	if err != nil || json.Unmarshal(b, &d) != nil {
		return ""
	}
	return d.Data.Str("status")
}

// reach waits until the run is held at its moment.
func (c *cell) reach(within time.Duration) {
	for end := time.Now().Add(within); ; time.Sleep(4 * time.Millisecond) {
		switch c.moment.hold {
		case inStatus:
			if c.now() == c.moment.point {
				return
			}
		case inEngine:
			if pid := c.in.engine(c.run, "plan"); pid != 0 {
				c.engine = pid
				signalTo(pid, syscall.SIGSTOP)
				return
			}
		case inLedger:
			for _, e := range c.in.led.of(c.run) {
				if e.key == c.moment.point {
					return
				}
			}
			time.Sleep(10 * time.Millisecond)
		default:
			if c.in.hit(c.moment.point, c.key) != 0 {
				return
			}
		}
		if time.Now().After(end) {
			c.missed = "not reached; the run is " + c.now()
			return
		}
	}
}

// free lets the run go on.
func (c *cell) free() {
	signalTo(c.engine, syscall.SIGCONT)
	c.release()
	if c.key != "" {
		c.in.free(c.moment.point, c.key)
	}
}

// settle waits for the end of the run, doing only what its user would: upload
// again what was not answered, confirm again.
func (c *cell) settle(t *testing.T, within time.Duration) {
	in := c.in
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		s := in.live()
		if c.run == "" {
			code, b, err := s.ask("GET", "/api/v2/workspaces/"+c.ws.id+"/runs", nil)
			var d struct{ Data []servertest.Resource }
			if err == nil && code == 200 && json.Unmarshal(b, &d) == nil && len(d.Data) > 0 {
				c.know(t, d.Data[0])
				continue
			}
			if c.moment.hold == atConfig {
				if code, b, err = s.ask("GET", "/api/v2/configuration-versions/"+c.config, nil); err == nil && code == 200 && bytes.Contains(b, []byte(`"pending"`)) {
					s.configure(t, c.ws, in.led.chain(2, 20*time.Millisecond))
				}
			}
			if code, b, err := s.ask("POST", "/api/v2/runs", servertest.Doc("runs", nil, "workspace", "workspaces", c.ws.id)); err == nil && code == 201 {
				c.know(t, one(t, b))
			}
			continue
		}
		code, b, err := s.ask("GET", "/api/v2/runs/"+c.run, nil)
		if err == nil && code == 404 {
			c.status = "gone"
			return
		}
		var d struct{ Data servertest.Resource }
		if err == nil && code == 200 && json.Unmarshal(b, &d) == nil {
			st := d.Data.Str("status")
			if isFinal(st) {
				c.status = strings.TrimSpace(st + " " + d.Data.Str("reason"))
				return
			}
			if st == "planned" && d.Data.In("actions", "is-confirmable") == true {
				_, _, _ = s.ask("POST", "/api/v2/runs/"+c.run+"/actions/apply", map[string]string{})
			}
		}
		if time.Now().After(end) {
			c.wrong("not final after %s: %d %.300s", within, code, b)
			return
		}
	}
}

// verify holds what the cell left against what must always hold.
func (c *cell) verify(t *testing.T) {
	in := c.in
	// Nothing is done twice.
	begun, done := map[string]int{}, map[string]string{}
	for _, e := range in.led.of(c.run) {
		if e.what == "start" {
			if begun[e.key]++; begun[e.key] > 1 {
				c.wrong("%s was applied twice", e.key)
			}
		} else {
			done[e.key] = e.nonce
		}
	}
	if c.status == "gone" {
		if c.moment.begun && !c.moment.ended && c.said/100 == 2 {
			c.wrong("the workspace was deleted while its apply was at work")
		}
		return
	}
	if c.status == "" {
		return
	}
	// It ended as it may.
	ok := false
	for _, w := range allowed(in.setup, c.fault, c.moment) {
		ok = ok || w == c.status || !strings.Contains(w, " ") && strings.HasPrefix(c.status, w)
	}
	s := in.live()
	r := s.run(t, c.run)
	if !ok {
		c.wrong("it ended %s (%s)", c.status, r.Str("reason-text"))
	}
	s.history(t, r)
	if strings.HasSuffix(c.status, "not-started") && len(begun) > 0 {
		c.wrong("the ledger knows an apply that is said not to have been started")
	}
	if c.status == "applied" && len(done) != 2 {
		c.wrong("it is applied and the ledger has %d of 2 resources", len(done))
	}
	if (c.fault == cancelRun || c.fault == forceCancel) && c.said == 202 && !c.moment.begun && c.status == "applied" {
		c.wrong("it is applied, though it was canceled before the apply had begun")
	}
	accepted := 0
	for _, code := range c.again {
		if code == 202 {
			accepted++
		}
		if code != 202 && code != 409 {
			c.wrong("a second apply request was answered with %d", code)
		}
	}
	if accepted > 1 {
		c.wrong("%d requests to apply were accepted", accepted)
	}
	// What was made is in the state, or aside. A worker that was cut off brings it
	// after the run has ended.
	killed := c.moment.runs && slices.Contains([]string{killServer, killAgent, loseAgent, stopAgent, stopServer, cutAgent, revoke, killEngine, killSuper, forceCancel, termServer, termAgent, cutOne, diskFull, dbStopped, dbAway}, c.fault)
	// A force-cancel that was asked for before the engine was started may reach it
	// after.
	killed = killed || c.fault == forceCancel && strings.HasSuffix(c.status, " force-canceled")
	gone := c.missing(s, done)
	for end := time.Now().Add(15 * time.Second); gone > 0 && !killed && c.fault != loseAgent && time.Now().Before(end); gone = c.missing(s, done) {
		time.Sleep(50 * time.Millisecond)
	}
	switch {
	case c.fault == loseAgent: // what it had is on its disk
	case gone > 0 && !killed, gone > 1 && !s.lossy:
		c.wrong("%d of %d resources that were made are neither in the state nor aside", gone, len(done))
	}
	for _, v := range s.all(t, "/api/v2/state-versions?filter[organization][name]="+adminName+"&filter[workspace][name]="+c.ws.name) {
		raw := s.must(t, "GET", v.Str("hosted-state-download-url"), nil)
		if sum := md5.Sum(raw); hex.EncodeToString(sum[:]) != v.Str("md5") {
			c.wrong("the bytes of state version %s are not those of its md5", v.ID)
		}
	}
	if one(t, s.must(t, "GET", "/api/v2/workspaces/"+c.ws.id, nil)).Bool("locked") {
		c.wrong("the workspace is locked though nothing is in flight")
	}
	c.verifyLogs(t, s)
}

// missing counts the resources that were made and are neither in the state nor
// kept aside.
func (c *cell) missing(s *server, done map[string]string) (gone int) {
	_, state, err := s.ask("GET", "/api/v1/terraform/state/"+adminName+"/"+c.ws.name, nil)
	if err != nil {
		c.wrong("read the state: %v", err)
	}
	have := nonces(state)
	if code, aside, _ := s.ask("GET", "/api/v2/applies/"+c.apply+"/errored-state", nil); code == 200 {
		for k, n := range nonces(aside) {
			have[k] = n
		}
	}
	for k, n := range done {
		if have[k] != n {
			gone++
		}
	}
	return gone
}

// verifyLogs checks that a log is whole: framed, and each line once and in
// order.
func (c *cell) verifyLogs(t *testing.T, s *server) {
	for _, kind := range []string{"plan", "apply"} {
		doc := one(t, s.must(t, "GET", "/api/v2/runs/"+c.run+"/"+kind, nil))
		log := string(s.must(t, "GET", doc.Str("log-read-url")+"?limit=1000000", nil))
		if st := doc.Str("status"); st == "unreachable" || st == "pending" || log == "" {
			continue
		}
		if strings.Count(log, "\x02") != 1 || strings.Count(log, "\x03") != 1 || log[0] != 2 || log[len(log)-1] != 3 {
			c.wrong("the log of the %s is not framed: %q", kind, log)
		}
		last := -1
		for _, line := range []string{"line of r0 before", "line of r0 after", "line of r1 before", "line of r1 after"} {
			at := strings.Index(log, "(local-exec): "+line)
			if strings.Count(log, "(local-exec): "+line) > 1 {
				c.wrong("%q is in the log more than once", line)
			}
			if at >= 0 && at < last {
				c.wrong("%q is out of order in the log", line)
			}
			last = max(at, last)
			if at < 0 && kind == "apply" && c.status == "applied" {
				c.wrong("%q is not in the log of the apply: %q", line, log)
			}
		}
		if kind == "apply" && c.status == "applied" && !strings.Contains(log, "Apply complete!") {
			c.wrong("the log of the apply does not end as it should: %q", log)
		}
	}
}

// strike does what the batch's fault does. All that is left of it is mended
// when it returns, but for time that has to pass.
func (in *installation) strike(t *testing.T, fault string, cells []*cell) {
	freeAll := func() {
		for _, c := range cells {
			c.free()
		}
	}
	each := func(f func(*cell)) {
		var wg sync.WaitGroup
		for _, c := range cells {
			wg.Go(func() { f(c) })
		}
		wg.Wait()
	}
	act := func(c *cell, action string) int {
		code, _, _ := in.live().ask("POST", "/api/v2/runs/"+c.run+"/actions/"+action, map[string]string{})
		return code
	}
	leases := func(n float64) { time.Sleep(time.Duration(n * float64(in.lease))) }
	switch fault {
	case killServer:
		for _, s := range in.holdersFirst(cells) {
			s.kill()
			// The others must get on without it, or it is back at once.
			if len(in.servers) > 1 && in.rng.IntN(2) == 0 {
				leases(1.2)
			}
			in.freeDead(cells)
			s.start(t)
		}
	case termServer:
		for _, s := range in.servers {
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
			time.Sleep(200 * time.Millisecond)
			if s == in.servers[0] {
				freeAll() // held, it could not end
				for _, n := range in.nodes() {
					in.free("claim", n)
				}
			}
			s.stop(t, 60*time.Second)
			s.start(t)
		}
	case stopServer:
		s := in.servers[in.rng.IntN(len(in.servers))]
		pid := s.cmd.Process.Pid
		signalTo(pid, syscall.SIGSTOP)
		if len(in.servers) == 1 {
			leases(3)
		} else {
			freeAll()
			leases(3)
		}
		signalTo(pid, syscall.SIGCONT)
	case killAgent, loseAgent:
		old := in.agents
		in.agents = nil
		for _, a := range old {
			a.kill()
		}
		if fault == loseAgent {
			leases(1.5)
			in.freeDead(cells)
			for range old {
				in.addAgent(t)
			}
			return
		}
		in.freeDead(cells)
		for _, a := range old {
			in.startAgent(t, a.dir)
		}
	case termAgent:
		old := in.agents
		in.agents = nil
		for _, a := range old {
			_ = a.cmd.Process.Signal(syscall.SIGTERM)
		}
		time.Sleep(200 * time.Millisecond)
		for _, a := range old {
			_ = a.cmd.Process.Signal(syscall.SIGTERM)
		}
		time.Sleep(300 * time.Millisecond)
		freeAll()
		for _, a := range old {
			a.ends(t, 60*time.Second, 0)
			in.startAgent(t, a.dir)
		}
	case stopAgent:
		for _, a := range in.agents {
			signalTo(a.cmd.Process.Pid, syscall.SIGSTOP)
		}
		leases(3)
		for _, a := range in.agents {
			signalTo(a.cmd.Process.Pid, syscall.SIGCONT)
		}
	case cutBriefly, cutOne, cutAgent:
		n := map[string]float64{cutBriefly: 0.5, cutOne: 1, cutAgent: 5}[fault]
		for _, g := range in.gates {
			g.set(silent)
		}
		for _, c := range cells { // some go on while nobody hears of it
			if in.rng.IntN(2) == 0 {
				c.free()
			}
		}
		leases(n)
		for _, g := range in.gates {
			g.set(passing)
			g.reset() // a line that was cut that long is not the same line
		}
	case loseAnswer:
		for _, g := range in.gates {
			g.set(broken)
		}
		freeAll()
		time.Sleep(300 * time.Millisecond)
		for _, g := range in.gates {
			g.set(passing)
		}
	case revoke:
		s := in.live()
		for _, tok := range list(t, s.must(t, "GET", "/api/v2/agent-pools/"+in.pool+"/authentication-tokens", nil)) {
			s.must(t, "DELETE", "/api/v2/authentication-tokens/"+tok.ID, nil)
		}
		old := in.agents
		in.agents = nil
		leases(0.5)
		freeAll()
		for _, a := range old {
			a.ends(t, 60*time.Second, 1)
		}
		tok := one(t, s.must(t, "POST", "/api/v2/agent-pools/"+in.pool+"/authentication-tokens", servertest.Doc("authentication-tokens", map[string]any{"description": "again"})))
		in.token = tok.Str("token")
		for _, a := range old {
			in.startAgent(t, a.dir)
		}
	case killEngine, killSuper:
		for _, c := range cells {
			pid := c.engine
			if pid == 0 {
				pid = in.engine(c.run, "apply")
			}
			if fault == killSuper {
				pid = in.supervisor(c.run)
			}
			if pid == 0 {
				c.missed = "there is no such process"
			}
			signalTo(pid, syscall.SIGKILL)
		}
	case dbAway:
		in.line.set([]wireMode{silent, broken}[in.rng.IntN(2)])
		freeAll()
		time.Sleep(3 * time.Second)
		in.line.set(passing)
		in.line.reset()
	case dbStopped:
		in.pg.stop()
		freeAll()
		in.refuses(t)
		if os.Getenv("INTERLOCK_TEST_CHAOS") != "" {
			time.Sleep(time.Minute)
		}
		in.pg.cont()
	case dbRestarted:
		in.pg.shut(t)
		freeAll()
		in.refuses(t)
		in.pg.start(t)
	case diskFull:
		ballast := filepath.Join(in.base, "ballast")
		fill(ballast)
		freeAll()
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			code, b, err := in.live().ask("POST", "/api/v2/workspaces/"+cells[0].ws.id+"/configuration-versions", servertest.Doc("configuration-versions", map[string]any{"auto-queue-runs": false}))
			if err != nil || code == 500 {
				t.Errorf("a write while the disk is full: %d %v %.200s", code, err, b)
			}
			fill(ballast)
		}
		_ = os.Remove(ballast)
	case storeAway:
		_ = os.Rename(in.objects, in.objects+".away")
		_ = os.WriteFile(in.objects, []byte("not a directory"), 0o600)
		freeAll()
		time.Sleep(1500 * time.Millisecond)
		_ = os.Remove(in.objects)
		_ = os.Rename(in.objects+".away", in.objects)
	case cancelRun:
		each(func(c *cell) { c.said = act(c, "cancel") })
	case forceCancel:
		each(func(c *cell) { c.said = act(c, "cancel") })
		for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			left := 0
			for _, c := range cells {
				if c.said == 202 && act(c, "force-cancel") == 409 && !isFinal(c.now()) {
					left++
				}
			}
			if left == 0 {
				break
			}
		}
	case deleteSpace:
		each(func(c *cell) { c.said, _, _ = in.live().ask("DELETE", "/api/v2/workspaces/"+c.ws.id, nil) })
	case applyAgain:
		each(func(c *cell) {
			var wg sync.WaitGroup
			c.again = make([]int, 3)
			for i := range c.again {
				wg.Go(func() { c.again[i] = act(c, "apply") })
			}
			wg.Wait()
		})
	}
}

// refuses checks what is answered while the database does not: soon, that one
// should try again, and nothing of how it is made.
func (in *installation) refuses(t *testing.T) {
	s := in.live()
	for _, q := range []struct{ path, accept, kind string }{
		{"/api/v2/organizations/" + adminName + "/workspaces", "", "application/vnd.api+json"},
		{"/", "text/html", "text/html"}, // with a session that has to be looked up
		{"/api/v1/terraform/state/" + adminName + "/cell1", "", "application/json"},
	} {
		for end := time.Now().Add(15 * time.Second); ; {
			req, _ := http.NewRequest("GET", s.url+q.path, nil)
			if q.accept != "" {
				req.Header.Set("Accept", q.accept)
				req.Header.Set("Cookie", "interlock_session=none")
			} else {
				req.Header.Set("Authorization", "Bearer "+adminToken)
			}
			res, err := httpClient.Do(req)
			if err != nil {
				t.Errorf("%s while the database is stopped: %v", q.path, err)
				break
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode < 500 && time.Now().Before(end) {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.HasPrefix(res.Header.Get("Content-Type"), q.kind) || bytes.Contains(b, []byte("SELECT")) {
				t.Errorf("%s while the database is stopped: %s %v %.300s", q.path, res.Status, res.Header, b)
			}
			break
		}
	}
	if code, _, err := s.ask("GET", "/healthz", nil); err != nil || code != 200 {
		t.Errorf("healthz while the database is stopped: %d %v", code, err)
	}
	if code, _, err := s.ask("GET", "/readyz", nil); err != nil || code != 503 {
		t.Errorf("readyz while the database is stopped: %d %v", code, err)
	}
}

// holdersFirst are the servers, those first at which something is held: one that
// is held while another is down would be one that stalls, which is another fault.
func (in *installation) holdersFirst(cells []*cell) []*server {
	holds := func(s *server) int {
		for _, c := range cells {
			if c.key != "" && s.cmd != nil && in.hit(c.moment.point, c.key) == s.cmd.Process.Pid {
				return 0
			}
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(in.servers), func(a, b *server) int { return holds(a) - holds(b) })
}

// freeDead lets go what the dead cannot: the holds of processes that are gone.
func (in *installation) freeDead(cells []*cell) {
	for _, c := range cells {
		pid := c.engine
		if c.key != "" {
			pid = in.hit(c.moment.point, c.key)
		}
		if pid != 0 && syscall.Kill(pid, 0) != nil {
			c.free()
		}
	}
}

// play makes the cells of a batch and says how each ended.
func (in *installation) play(t *testing.T, b batch) []*cell {
	var cells []*cell
	for _, m := range b.moments {
		c := &cell{in: in, moment: m, fault: b.fault}
		c.begin(t)
		cells = append(cells, c)
	}
	defer func() {
		for _, c := range cells {
			c.free()
		}
	}()
	var wg sync.WaitGroup
	var queued []*cell // that nobody may claim
	for _, c := range cells {
		switch {
		case c.moment.point == "plan_queued" || c.moment.point == "apply_queued":
			queued = append(queued, c)
			if c.moment.point == "plan_queued" {
				continue
			}
			c.unlock(t) // it is planned meanwhile
			continue
		case c.moment.point == "pending", c.moment.hold == atConfig, c.moment.hold == atSpace:
		default:
			c.unlock(t)
		}
		wg.Go(func() {
			if c.moment.point == "acted" {
				for end := time.Now().Add(time.Minute); c.now() != "planned" && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
				in.arm("acted", c.key)
				go func() {
					_, _, _ = in.live().ask("POST", "/api/v2/runs/"+c.run+"/actions/apply", map[string]string{})
				}()
			}
			c.reach(40 * time.Second)
		})
	}
	wg.Wait()
	if len(queued) > 0 {
		for _, c := range queued {
			for end := time.Now().Add(time.Minute); c.moment.point == "apply_queued" && c.now() != "planned" && time.Now().Before(end); {
				time.Sleep(10 * time.Millisecond)
			}
		}
		nodes := in.nodes()
		for _, n := range nodes {
			in.arm("claim", n)
		}
		defer func() {
			for _, n := range nodes {
				in.free("claim", n)
			}
		}()
		for _, n := range nodes {
			for end := time.Now().Add(8 * time.Second); in.hit("claim", n) == 0 && time.Now().Before(end); {
				time.Sleep(5 * time.Millisecond)
			}
		}
		for _, c := range queued {
			if c.moment.point == "plan_queued" {
				c.unlock(t)
			} else {
				in.live().must(t, "POST", "/api/v2/runs/"+c.run+"/actions/apply", map[string]string{})
			}
			c.reach(10 * time.Second)
		}
		defer func() {}()
		in.strikeAll(t, b.fault, cells, nodes)
	} else {
		in.strikeAll(t, b.fault, cells, nil)
	}
	for _, c := range cells {
		if c.moment.point == "pending" || c.moment.hold == atSpace {
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				code, _, err := in.live().ask("POST", "/api/v2/workspaces/"+c.ws.id+"/actions/unlock", map[string]string{})
				if err == nil && code < 500 {
					break
				}
			}
		}
	}
	for _, c := range cells {
		wg.Go(func() { c.settle(t, 90*time.Second+3*in.lease) })
	}
	wg.Wait()
	for _, c := range cells {
		c.verify(t)
	}
	in.rest(t, cells)
	return cells
}

func (in *installation) strikeAll(t *testing.T, fault string, cells []*cell, nodes []string) {
	in.strike(t, fault, cells)
	for _, c := range cells {
		c.free()
	}
	for _, n := range nodes {
		in.free("claim", n)
	}
}

// rest checks that nothing of the batch is left at work, and that a workspace
// of it can go on.
func (in *installation) rest(t *testing.T, cells []*cell) {
	for _, d := range in.workDirs() {
		noProcesses(t, d, 20*time.Second, "after the batch")
	}
	c := cells[in.rng.IntN(len(cells))]
	if c.status == "gone" || c.status == "" {
		return
	}
	s := in.live()
	next := s.queue(t, c.ws, map[string]any{"auto-apply": true})
	s.wait(t, next, time.Minute, "applied")
}

// TestKillMatrix plays a part of the kill matrix; TestChaosKillMatrix all of it.
func TestKillMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	playMatrix(t, func(b batch) bool { return slices.Contains(quick[b.setup], b.fault) })
}

func TestChaosKillMatrix(t *testing.T) {
	if os.Getenv("INTERLOCK_TEST_CHAOS") == "" {
		t.Skip("make chaos plays the whole matrix")
	}
	only := os.Getenv("INTERLOCK_TEST_MATRIX") // words that the name of a cell must have
	playMatrix(t, func(b batch) bool {
		name := fmt.Sprintf("%s/%d/%v %s", b.db, b.servers, b.remote, b.fault)
		for w := range strings.SplitSeq(only, ",") {
			if !strings.Contains(name, w) {
				return false
			}
		}
		return true
	})
}

func playMatrix(t *testing.T, chosen func(batch) bool) {
	seed := seedOf(t)
	all, size := batches()
	var mu sync.Mutex
	played, violations, missed := 0, 0, 0
	began := time.Now()
	const lease = 9 * time.Second
	t.Run("cells", func(t *testing.T) {
		for _, s := range setups {
			var mine []batch
			for _, b := range all {
				if b.setup == s && chosen(b) {
					mine = append(mine, b)
				}
			}
			if len(mine) == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s-%d-%s", s.db, s.servers, map[bool]string{true: "remote", false: "embedded"}[s.remote]), func(t *testing.T) {
				t.Parallel()
				dbtest.EachURL(t, func(t *testing.T, dsn string) {
					if strings.HasPrefix(dsn, "postgres") != (s.db == "postgres") {
						t.Skip("not of this installation")
					}
					rng := seeded(seed, s.db, fmt.Sprint(s.servers, s.remote))
					empty, _ := os.ReadFile(dsn) // of SQLite
					special := map[string]*installation{}
					usual := newInstallation(t, s, dsn, lease, rng, options{})
					for _, b := range mine {
						at := time.Now()
						in := usual
						switch b.fault {
						case dbStopped, dbRestarted:
							if in = special[b.fault]; in == nil {
								pg := newPostgres(t)
								in = newInstallation(t, s, pg.dsn(), lease, rng, options{})
								in.pg = pg
								special[dbStopped], special[dbRestarted] = in, in
							}
						case diskFull:
							if in = special[diskFull]; in == nil {
								o := options{base: smallDisk(t)}
								if s.db == "sqlite" {
									dsn = filepath.Join(o.base, "interlock.db")
									if err := os.WriteFile(dsn, empty, 0o600); err != nil {
										t.Fatal(err)
									}
								}
								if s.db == "postgres" {
									dsn = newPostgres(t).dsn() // another store needs another database
								}
								in = newInstallation(t, s, dsn, lease, rng, o)
								special[diskFull] = in
							}
						}
						cells := in.play(t, b)
						mu.Lock()
						for _, c := range cells {
							result := c.status
							switch {
							case len(c.bad) > 0:
								violations++
								t.Errorf("VIOLATION %s (run %s): %s\n%s", c, c.run, strings.Join(c.bad, "; "), tail(usual.live().log, 5))
								result += " VIOLATION"
							case c.missed != "":
								missed++
								t.Errorf("%s: %s", c, c.missed)
								result += " MISSED"
							}
							t.Logf("%-90s %s", c, result)
						}
						played += len(cells)
						mu.Unlock()
						t.Logf("%d cells of %q took %s", len(cells), b.fault, time.Since(at).Round(100*time.Millisecond))
						if t.Failed() && len(cells) > 0 && os.Getenv("INTERLOCK_TEST_CHAOS") == "" {
							return
						}
					}
				})
			})
		}
	})
	t.Logf("%d cells (of %d), %d violations, %d missed; seed %d; %s", played, size, violations, missed, seed, time.Since(began).Round(time.Second))
}

// Command conformance runs the integration tests of go-tfe, the vendor's own
// client, against a server, and compares what passes with expected.txt: the
// list of tests that are known not to pass, with a reason each. The list may
// only shrink: a test that fails without standing there fails the run, and so
// does a test that stands there and passes.
//
// Each top-level test is a process of its own with a limit in time. Two of the
// suite's configurations name a provider that would have to be downloaded; a
// built-in resource stands in for it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	token  = "conformance.atlasv1.token-of-the-administrator"
	module = "github.com/hashicorp/go-tfe"
)

// sometimes begins the reason of a test that passes by chance only.
const sometimes = "sometimes: "

type options struct {
	binary, expected, only, logs string
	tfe, quick                   bool
	parallel                     int
	limit                        time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.binary, "interlock", "bin/interlock", "the server's binary")
	flag.StringVar(&o.expected, "expected", "tools/conformance/expected.txt", "the tests that are known not to pass")
	flag.StringVar(&o.only, "run", "", "run only the tests whose name matches")
	flag.StringVar(&o.logs, "logs", "", "directory for what failing tests print")
	flag.BoolVar(&o.tfe, "tfe", false, "test as Terraform Enterprise, with its administration")
	flag.BoolVar(&o.quick, "quick", false, "leave out the tests that are known not to pass")
	flag.IntVar(&o.parallel, "parallel", 3, "tests at once")
	flag.DurationVar(&o.limit, "limit", 100*time.Second, "longest time of a test")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	known, err := readExpected(o.expected, o.tfe)
	if err != nil {
		return err
	}
	suite, err := prepare()
	if err != nil {
		return err
	}
	names, err := suite.tests()
	if err != nil {
		return err
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		return !only.MatchString(n) || o.quick && known[n] != ""
	})
	base, stop, err := serve(o.binary)
	if err != nil {
		return err
	}
	defer stop()
	hook, stopHook, err := receiver()
	if err != nil {
		return err
	}
	defer stopHook()
	env := append(os.Environ(), "TFE_ADDRESS="+base, "TFE_TOKEN="+token, "TFC_RUN_TASK_URL="+hook, "SKIP_HYOK_INTEGRATION_TESTS=1")
	for _, role := range []string{"SITE_ADMIN", "CONFIGURATION", "PROVISION_LICENSES", "SUBSCRIPTION", "SUPPORT", "SECURITY_MAINTENANCE", "VERSION_MAINTENANCE"} {
		env = append(env, "TFE_ADMIN_"+role+"_TOKEN="+token)
	}
	mode := "HCP"
	if o.tfe {
		mode, env = "TFE", append(env, "ENABLE_TFE=1")
	}
	began := time.Now()
	results := make([]result, len(names))
	todo := make(chan int)
	var wg sync.WaitGroup
	var global sync.RWMutex // tests that change the whole installation run alone
	for range o.parallel {
		wg.Go(func() {
			for i := range todo {
				if strings.HasPrefix(names[i], "TestAdmin") {
					global.Lock()
					results[i] = suite.test(names[i], env, o.limit)
					global.Unlock()
				} else {
					global.RLock()
					results[i] = suite.test(names[i], env, o.limit)
					global.RUnlock()
				}
			}
		})
	}
	for i := range names {
		todo <- i
	}
	close(todo)
	wg.Wait()

	count := map[string]int{}
	var wrong []string
	for i, r := range results {
		count[r.what]++
		reason := known[names[i]]
		switch {
		case r.what == "fail" && reason == "":
			wrong = append(wrong, names[i]+" fails and is not expected to")
			if o.logs != "" {
				if err := errors.Join(os.MkdirAll(o.logs, 0o755), os.WriteFile(filepath.Join(o.logs, names[i]+".log"), r.out, 0o644)); err != nil {
					return err
				}
			}
		case r.what == "pass" && reason != "" && !strings.HasPrefix(reason, sometimes):
			wrong = append(wrong, names[i]+" passes: take it off the list")
		}
	}
	fmt.Printf("conformance: go-tfe %s, %s mode: %d tests passed, %d failed (%d of them expected), %d skipped themselves, %.0f s\n",
		suite.version, mode, count["pass"], count["fail"], count["fail"]-unexpected(wrong), count["skip"], time.Since(began).Seconds())
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "\n  "))
	}
	return nil
}

func unexpected(wrong []string) (n int) {
	for _, w := range wrong {
		if strings.HasSuffix(w, "not expected to") {
			n++
		}
	}
	return n
}

// readExpected reads lines "TestName: reason"; a name with [tfe] or [hcp]
// after it counts in that mode only. A reason that begins with "sometimes: "
// allows both. # begins a comment.
func readExpected(file string, tfe bool) (map[string]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	mode := "[hcp]"
	if tfe {
		mode = "[tfe]"
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok {
			return nil, fmt.Errorf("%s: a line without a reason: %s", file, line)
		}
		name, only, _ := strings.Cut(name, " ")
		if only == "" || only == mode {
			out[name] = reason
		}
	}
	return out, nil
}

// A suite is the compiled tests.
type suite struct{ version, src, dir, program string }

// prepare compiles the suite once for a version of the module, which is that
// of go.mod, into the user's cache.
func prepare() (*suite, error) {
	out, err := exec.Command("go", "list", "-m", "-json", module).Output()
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", module, err)
	}
	var m struct{ Version, Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, err
	}
	if m.Dir == "" {
		out, err := exec.Command("go", "mod", "download", "-json", module).Output()
		if err == nil {
			err = json.Unmarshal(out, &m)
		}
		if err != nil {
			return nil, fmt.Errorf("download %s: %w", module, err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	s := &suite{version: m.Version}
	base := filepath.Join(cache, "interlock", "conformance", m.Version)
	s.src, s.dir, s.program = filepath.Join(base, "src"), filepath.Join(base, "cwd"), filepath.Join(base, "suite.test")
	if _, err := os.Stat(s.program); err == nil {
		return s, nil
	}
	if err := os.RemoveAll(base); err != nil {
		return nil, err
	}
	if err := copyTree(m.Dir, s.src); err != nil {
		return nil, err
	}
	if err := copyTree(filepath.Join(m.Dir, "test-fixtures"), filepath.Join(s.dir, "test-fixtures")); err != nil {
		return nil, err
	}
	for file, text := range map[string]string{
		"config-version/main.tf":           "resource \"terraform_data\" \"foo\" {}\n",
		"config-version-with-test/main.tf": "variable \"wait_time\" {\n  type    = string\n  default = \"0s\"\n}\n\nresource \"terraform_data\" \"foo\" {}\n\nresource \"terraform_data\" \"bar\" {\n  depends_on = [terraform_data.foo]\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, "test-fixtures", filepath.FromSlash(file)), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command("go", "test", "-c", "-o", s.program, ".")
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.src, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("compile the suite: %w", err)
	}
	return s, nil
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
}

var testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)

// tests are the names of those that talk to a server.
func (s *suite) tests() (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(s.src, "*_test.go"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if base := filepath.Base(f); !strings.Contains(base, "integration") && !strings.HasPrefix(base, "variable_set") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for _, m := range testFunc.FindAllSubmatch(b, -1) {
			names = append(names, string(m[1]))
		}
	}
	slices.Sort(names)
	return names, nil
}

type result struct {
	what string // pass, fail, skip
	out  []byte
}

func (s *suite) test(name string, env []string, limit time.Duration) result {
	ctx, cancel := context.WithTimeout(context.Background(), limit+5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, "-test.run", "^"+name+"$", "-test.v", "-test.timeout", limit.String(), "-test.parallel", "8")
	cmd.Dir, cmd.Env, cmd.WaitDelay = s.dir, env, time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		return result{"fail", out}
	case bytes.Contains(out, []byte("--- SKIP: "+name+" ")):
		return result{"skip", out}
	}
	return result{"pass", out}
}

// serve starts the server on an empty place.
func serve(binary string) (base string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "interlock-conformance")
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(binary, "server", "--listen=127.0.0.1:0", "--data-dir="+filepath.Join(dir, "data"), "--log-level=warn", "--outbound-allow=127.0.0.0/8,::1")
	cmd.Env = append(os.Environ(), "INTERLOCK_ADMIN_USERNAME=admin", "INTERLOCK_ADMIN_PASSWORD=a password for conformance", "INTERLOCK_ADMIN_EMAIL=admin@example.com", "INTERLOCK_ADMIN_TOKEN="+token)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
		}
		_ = os.RemoveAll(dir)
	}
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if _, u, ok := strings.Cut(sc.Text(), " is ready at "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return u, stop, nil
		}
	}
	stop()
	return "", nil, errors.New("the server did not start")
}

// receiver stands for the address outside that some tests have called.
func receiver() (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
	})}
	go func() { _ = srv.Serve(l) }()
	return "http://" + l.Addr().String(), func() { _ = srv.Close() }, nil
}

// Command demo shows the main job in one go: it starts a server on its
// embedded default, uploads a configuration, queues a run over the 2017 API,
// shows the plan, confirms it, and shows the apply, the outputs and the state.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	user      = "demo"
	password  = "demo-password"
	workspace = "quickstart"
	scratch   = "interlock-data/demo"
)

func main() {
	exit := flag.Bool("exit", false, "stop the server at the end")
	binary := flag.String("interlock", "bin/interlock", "the server's binary")
	source := flag.String("source", "examples/quickstart", "directory of the configuration")
	data := flag.String("data-dir", "", "directory of the server's data (default: "+scratch+", emptied first)")
	listen := flag.String("listen", "127.0.0.1:0", "address of the server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *binary, *source, *data, *listen, *exit); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo runs the whole story.
func demo(ctx context.Context, binary, source, data, listen string, exit bool) (err error) {
	engine, err := engine(ctx)
	if err != nil {
		return err
	}
	if data == "" {
		data = scratch
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	token := fmt.Sprintf("demo-%d-%d", os.Getpid(), time.Now().UnixNano())
	say("Starting the server (data in %s)", data)
	c, stop, err := start(ctx, binary, data, listen, engine, token)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	if err := c.story(ctx, source); err != nil {
		return err
	}
	say("Done. %s was applied.", workspace)
	fmt.Printf("\n  URL       %s\n  user      %s\n  password  %s\n  API token %s\n\n", c.base, user, password, token)
	if exit {
		return nil
	}
	fmt.Println("The server stays up until you press Ctrl-C.")
	<-ctx.Done()
	return nil
}

func say(format string, args ...any) { fmt.Printf("\n==> "+format+"\n", args...) }

// engine finds terraform or tofu on PATH, or has OpenTofu built from its
// source, which takes some minutes once.
func engine(ctx context.Context) (string, error) {
	for _, name := range []string{"terraform", "tofu"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	say("Neither terraform nor tofu is on PATH: building OpenTofu (some minutes, once)")
	cmd := exec.CommandContext(ctx, "sh", "tools/engine.sh")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build OpenTofu: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}

// start runs the server and returns when it answers.
func start(ctx context.Context, binary, data, listen, engine, token string) (*client, func() error, error) {
	cmd := exec.Command(binary, "server", "--listen", listen, "--data-dir", data, "--engine-path", engine, "--log-level", "warn")
	cmd.Env = append(os.Environ(), "INTERLOCK_ADMIN_USERNAME="+user, "INTERLOCK_ADMIN_PASSWORD="+password, "INTERLOCK_ADMIN_TOKEN="+token)
	cmd.Stderr = os.Stderr
	// Ctrl-C reaches the whole terminal; the server is stopped by us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return cmd.Wait()
	}
	url := make(chan string, 1)
	go func() {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if _, after, ok := strings.Cut(sc.Text(), " is ready at "); ok {
				url <- after
			}
		}
		close(url)
	}()
	select {
	case u, ok := <-url:
		if !ok {
			return nil, nil, errors.Join(errors.New("the server did not start"), stop())
		}
		return &client{base: u, token: token}, stop, nil
	case <-time.After(30 * time.Second):
		return nil, nil, errors.Join(errors.New("the server is not ready after 30 s"), stop())
	case <-ctx.Done():
		return nil, nil, errors.Join(ctx.Err(), stop())
	}
}

type client struct{ base, token string }

// call sends a request and decodes a JSON answer into out, if any.
func (c *client) call(ctx context.Context, method, path string, body, out any) error {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return err
		}
		r = bytes.NewReader(j)
	}
	if !strings.HasPrefix(path, "http") {
		path = c.base + path
	}
	req, err := http.NewRequestWithContext(ctx, method, path, r)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path, c.base+"/api/") {
		req.Header.Set("X-Atlas-Token", c.token)
		req.Header.Set("Authorization", "Bearer "+c.token)
		req.Header.Set("Content-Type", "application/json")
		if strings.Contains(path, "/api/v2/") {
			req.Header.Set("Content-Type", "application/vnd.api+json")
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	switch o := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*o = b
		return nil
	}
	return json.Unmarshal(b, out)
}

// document is the part of a JSON:API answer that the story needs.
type document struct {
	Data struct {
		ID         string         `json:"id"`
		Attributes map[string]any `json:"attributes"`
		Rel        struct {
			LatestRun struct {
				Data struct {
					ID string `json:"id"`
				} `json:"data"`
			} `json:"latest-run"`
		} `json:"relationships"`
	} `json:"data"`
}

func (d document) text(name string) string { s, _ := d.Data.Attributes[name].(string); return s }

// attributes wraps attributes into a document.
func attributes(typ string, a map[string]any) map[string]any {
	return map[string]any{"data": map[string]any{"type": typ, "attributes": a}}
}

func (c *client) story(ctx context.Context, source string) error {
	say("Creating the environment %s/%s", user, workspace)
	err := c.call(ctx, "POST", "/api/v1/terraform/configurations", map[string]any{"configuration": map[string]string{"username": user, "name": workspace}}, nil)
	if err != nil && !strings.Contains(err.Error(), "taken") {
		return err
	}
	var ws document
	if err := c.call(ctx, "GET", "/api/v2/organizations/"+user+"/workspaces/"+workspace, nil, &ws); err != nil {
		return err
	}
	// Logs for people, not for programs.
	if err := c.call(ctx, "PATCH", "/api/v2/workspaces/"+ws.Data.ID, attributes("workspaces", map[string]any{"structured-run-output-enabled": false}), nil); err != nil {
		return err
	}
	say("Uploading %s", source)
	archive, err := pack(source)
	if err != nil {
		return err
	}
	var cv document
	if err := c.call(ctx, "POST", "/api/v2/workspaces/"+ws.Data.ID+"/configuration-versions", attributes("configuration-versions", map[string]any{"auto-queue-runs": false}), &cv); err != nil {
		return err
	}
	if err := c.call(ctx, "PUT", cv.text("upload-url"), archive, nil); err != nil {
		return err
	}
	say("Queueing a run: POST /api/v1/environments/%s/%s/plan", user, workspace)
	if err := c.call(ctx, "POST", "/api/v1/environments/"+user+"/"+workspace+"/plan", map[string]bool{"destroy": false}, nil); err != nil {
		return err
	}
	if err := c.call(ctx, "GET", "/api/v2/workspaces/"+ws.Data.ID, nil, &ws); err != nil {
		return err
	}
	return c.run(ctx, ws.Data.Rel.LatestRun.Data.ID, ws.Data.ID)
}

// run follows a run from its plan to its outputs.
func (c *client) run(ctx context.Context, id, ws string) error {
	say("The plan of %s", id)
	run, err := c.phase(ctx, id, "plan", "planned", "planned_and_finished")
	if err != nil {
		return err
	}
	if run.text("status") == "planned_and_finished" {
		say("The plan has no changes: it was applied before")
	} else {
		if w, ok := run.Data.Attributes["waiting"].(map[string]any); ok {
			say("%s is %s. %s", id, run.text("status"), w["text"])
		}
		say("Confirming it")
		if err := c.call(ctx, "POST", "/api/v2/runs/"+id+"/actions/apply", map[string]string{"comment": "Looks right."}, nil); err != nil {
			return err
		}
		say("The apply")
		if _, err := c.phase(ctx, id, "apply", "applied"); err != nil {
			return err
		}
	}
	say("Outputs")
	var outs struct {
		Data []struct {
			Attributes struct {
				Name      string          `json:"name"`
				Sensitive bool            `json:"sensitive"`
				Value     json.RawMessage `json:"value"`
			} `json:"attributes"`
		} `json:"data"`
	}
	if err := c.call(ctx, "GET", "/api/v2/workspaces/"+ws+"/current-state-version-outputs", nil, &outs); err != nil {
		return err
	}
	for _, o := range outs.Data {
		v := string(o.Attributes.Value)
		if o.Attributes.Sensitive {
			v = "(sensitive)"
		}
		fmt.Printf("  %s = %s\n", o.Attributes.Name, v)
	}
	say("State")
	var raw []byte
	if err := c.call(ctx, "GET", "/api/v1/terraform/state/"+user+"/"+workspace, nil, &raw); err != nil {
		return err
	}
	var st struct {
		Serial    int64  `json:"serial"`
		Lineage   string `json:"lineage"`
		Resources []struct {
			Type      string            `json:"type"`
			Name      string            `json:"name"`
			Instances []json.RawMessage `json:"instances"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return err
	}
	fmt.Printf("  serial %d, lineage %s, %d bytes\n", st.Serial, st.Lineage, len(raw))
	for _, r := range st.Resources {
		fmt.Printf("  %s.%s (%d)\n", r.Type, r.Name, len(r.Instances))
	}
	return nil
}

// phase prints a log as it grows, then waits for one of the wanted statuses.
func (c *client) phase(ctx context.Context, run, kind string, want ...string) (document, error) {
	var p, r document
	if err := c.call(ctx, "GET", "/api/v2/runs/"+run+"/"+kind, nil, &p); err != nil {
		return r, err
	}
	for offset := 0; ; {
		var b []byte
		if err := c.call(ctx, "GET", fmt.Sprintf("%s?limit=65536&offset=%d", p.text("log-read-url"), offset), nil, &b); err != nil {
			return r, err
		}
		offset += len(b)
		os.Stdout.Write(bytes.Trim(b, "\x02\x03"))
		if bytes.HasSuffix(b, []byte{3}) {
			break
		}
	}
	if err := c.call(ctx, "GET", "/api/v2/runs/"+run, nil, &r); err != nil {
		return r, err
	}
	for _, w := range want {
		if r.text("status") == w {
			return r, nil
		}
	}
	return r, fmt.Errorf("the run is %s: %s", r.text("status"), r.text("reason-text"))
}

// pack makes the archive of a directory.
func pack(dir string) ([]byte, error) {
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, fmt.Errorf("there is no configuration in %s", dir))
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if err := tw.WriteHeader(&tar.Header{Name: filepath.Base(f), Mode: 0o644, Size: int64(len(b))}); err != nil {
			return nil, err
		}
		if _, err := tw.Write(b); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

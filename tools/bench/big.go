package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	followersAt = 500
	big         = 100 << 20 // bytes of a log and of a state
	bigMemory   = 200       // MB that the server may hold at most
)

func decode(t []byte, out any) error { return json.Unmarshal(t, out) }

// fresh makes a database beside the one of address.
func fresh(address string) (string, error) {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, address)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	name := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

// peak is the most memory that a process ever held, in MB.
func peak(pid int) (float64, error) {
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(s)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("no VmHWM")
}

func (b *bench) reportPeak(what string) error {
	m, err := peak(b.cmd.Process.Pid)
	if err == nil {
		report("  "+what+", most memory of the server", m, bigMemory, "MB", true)
	}
	return err
}

// followers have one log followed by many at once, as the CLI and the pages do
// it: each asks again with the offset that it has reached.
func (b *bench) followers() error {
	tf := `resource "terraform_data" "x" {
  triggers_replace = [timestamp()]
  provisioner "local-exec" {
    interpreter = ["bash", "-c"]
    command     = "sleep 2; for i in {1..200}; do echo \"@@$EPOCHREALTIME@@\"; sleep 0.05; done"
  }
}
`
	name, id, err := b.environment(tf, true)
	if err != nil {
		return err
	}
	run, err := b.queue(name, id)
	if err != nil {
		return err
	}
	var apply doc
	if err := b.call("GET", "/api/v2/runs/"+run+"/apply", nil, &apply); err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: followersAt, DisableCompression: true}}
	logs := make([][]byte, followersAt)
	took := make([][]time.Duration, followersAt)
	errs := make([]error, followersAt)
	var wg sync.WaitGroup
	for i := range followersAt {
		wg.Go(func() { logs[i], took[i], errs[i] = follow(client, apply.Data.Attributes.LogURL) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var whole []byte
	if err := b.call("GET", apply.Data.Attributes.LogURL+"?limit=1048576&offset=0", nil, &whole); err != nil {
		return err
	}
	same := 0
	var all []time.Duration
	for i, l := range logs {
		if bytes.Equal(l, whole) && bytes.Count(l, []byte("@@")) >= 400 {
			same++
		}
		all = append(all, took[i]...)
	}
	report(fmt.Sprintf("  of %d followers, those who got every byte", followersAt), float64(same), followersAt, "", false)
	fmt.Printf("  a line of 20 a second readable by %d after it was printed: p50 %.0f ms, p99 %.0f ms, of %d\n", followersAt, ms(quantile(all, 0.5)), ms(quantile(all, 0.99)), len(all))
	report("  a line readable by all, p99", ms(quantile(all, 0.99)), 1000, "ms", true)
	return b.reportPeak(fmt.Sprintf("%d followers", followersAt))
}

func follow(client *http.Client, address string) (log []byte, took []time.Duration, err error) {
	for !bytes.HasSuffix(log, []byte{3}) {
		res, err := client.Get(fmt.Sprintf("%s?limit=65536&offset=%d", address, len(log)))
		if err != nil {
			return log, took, err
		}
		piece, err := io.ReadAll(res.Body)
		now := time.Now()
		res.Body.Close()
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("follow a log: %s %s", res.Status, piece)
		}
		if err != nil {
			return log, took, err
		}
		log = append(log, piece...)
		parts := strings.Split(string(piece), "@@")
		for i := 1; i < len(parts)-1; i++ {
			if sec, err := strconv.ParseFloat(parts[i], 64); err == nil && sec > 1e9 {
				took = append(took, now.Sub(time.UnixMicro(int64(sec*1e6))))
			}
		}
	}
	return log, took, nil
}

// bigLog has an apply print 100 MB, which are read back.
func (b *bench) bigLog() error {
	b.poll = 200 * time.Millisecond
	tf := fmt.Sprintf(`resource "terraform_data" "x" {
  triggers_replace = [timestamp()]
  provisioner "local-exec" {
    command = "yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrs | head -c %d"
  }
}
`, big)
	name, id, err := b.environment(tf, true)
	if err != nil {
		return err
	}
	at := time.Now()
	run, err := b.queue(name, id)
	if err != nil {
		return err
	}
	if err := b.await(run, "applied"); err != nil {
		return err
	}
	fmt.Printf("  an apply that prints 100 MB: %.1f s\n", time.Since(at).Seconds())
	var apply doc
	if err := b.call("GET", "/api/v2/runs/"+run+"/apply", nil, &apply); err != nil {
		return err
	}
	// Now from the database, and once more from the object store.
	sums := map[string]int{}
	for i := range 2 {
		if i > 0 {
			time.Sleep(45 * time.Second)
		}
		at := time.Now()
		n, sum, err := b.drain(apply.Data.Attributes.LogURL)
		if err != nil {
			return err
		}
		if sums[sum] = n; n < big {
			return fmt.Errorf("the log of 100 MB has %d bytes", n)
		}
		fmt.Printf("  its log read from the %s: %.1f s\n", []string{"database", "object store"}[i], time.Since(at).Seconds())
	}
	if len(sums) != 1 {
		return errors.New("the two are not the same")
	}
	return b.reportPeak("100 MB log")
}

// drain reads a log piece by piece.
func (b *bench) drain(address string) (n int, sum string, err error) {
	h := md5.New()
	for {
		var piece []byte
		if err := b.call("GET", fmt.Sprintf("%s?limit=1048576&offset=%d", address, n), nil, &piece); err != nil {
			return n, "", err
		}
		n += len(piece)
		h.Write(piece)
		if bytes.HasSuffix(piece, []byte{3}) {
			return n, hex.EncodeToString(h.Sum(nil)), nil
		}
	}
}

// stateOf writes a state of 10,000 resources and at least n bytes.
func stateOf(w io.Writer, serial int, n int) error {
	const resources = 10_000
	if _, err := fmt.Fprintf(w, `{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"6f1c0c1e-0000-4000-8000-000000000000","outputs":{},"resources":[`, serial); err != nil {
		return err
	}
	value := strings.Repeat("v", n/resources)
	for i := range resources {
		comma := ","
		if i == 0 {
			comma = ""
		}
		if _, err := fmt.Fprintf(w, `%s{"mode":"managed","type":"terraform_data","name":"r%d","provider":"provider[\"terraform.io/builtin/terraform\"]","instances":[{"schema_version":0,"attributes":{"id":"%d","input":{"value":"%s","type":"string"},"output":null,"triggers_replace":null},"sensitive_attributes":[]}]}`, comma, i, i, value); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, `],"check_results":null}`)
	return err
}

// bigState stores a state of 100 MB inside the document and by an upload, and
// reads each back.
func (b *bench) bigState() error {
	_, id, err := b.environment(configuration(1), false)
	if err != nil {
		return err
	}
	if err := b.call("POST", "/api/v2/workspaces/"+id+"/actions/lock", map[string]any{}, nil); err != nil {
		return err
	}
	type version struct {
		Data struct {
			ID         string
			Attributes struct {
				Download  string `json:"hosted-state-download-url"`
				Upload    string `json:"hosted-state-upload-url"`
				Size      int64
				Resources []any
			}
		}
	}
	for serial, how := range []string{1: "in the document", 2: "by an upload"} {
		if how == "" {
			continue
		}
		if err := b.again(); err != nil {
			return err
		}
		var raw bytes.Buffer
		if err := stateOf(&raw, serial, big); err != nil {
			return err
		}
		sum := md5.Sum(raw.Bytes())
		a := map[string]any{"serial": serial, "md5": hex.EncodeToString(sum[:]), "lineage": "6f1c0c1e-0000-4000-8000-000000000000"}
		if serial == 1 {
			a["state"] = base64.StdEncoding.EncodeToString(raw.Bytes())
		}
		at := time.Now()
		var v, cur version
		if err := b.call("POST", "/api/v2/workspaces/"+id+"/state-versions", attributes("state-versions", a), &v); err != nil {
			return err
		}
		if serial == 2 {
			if err := b.call("PUT", v.Data.Attributes.Upload, raw.Bytes(), nil); err != nil {
				return err
			}
		}
		wrote := time.Since(at)
		if err := b.call("GET", "/api/v2/workspaces/"+id+"/current-state-version", nil, &cur); err != nil {
			return err
		}
		at = time.Now()
		got, n, err := b.digest(cur.Data.Attributes.Download, md5.New())
		if err != nil {
			return err
		}
		if cur.Data.ID != v.Data.ID || got != hex.EncodeToString(sum[:]) || n != int64(raw.Len()) {
			return fmt.Errorf("the state that came back is another: %d bytes of %d", n, raw.Len())
		}
		fmt.Printf("  100 MB state %s: stored in %.1f s, read back in %.1f s, the same bytes\n", how, wrote.Seconds(), time.Since(at).Seconds())
		if err := b.reportPeak("100 MB state " + how); err != nil {
			return err
		}
	}
	return nil
}

// digest downloads an address without keeping what it gets.
func (b *bench) digest(address string, h hash.Hash) (string, int64, error) {
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	n, err := io.Copy(h, res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", address, res.Status)
	}
	return hex.EncodeToString(h.Sum(nil)), n, err
}

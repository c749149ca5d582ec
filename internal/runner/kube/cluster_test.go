package kube_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// cluster is the API server, the controllers and the store of Kubernetes, as
// their vendors build them. What it has not is a node: see kubelet.
type cluster struct {
	address, dir string
	http         *http.Client
	ns           string // of one test
}

const (
	adminToken = "admin-of-the-test-cluster"
	agentToken = "agent-of-the-test-cluster"
)

// startCluster starts what INTERLOCK_TEST_KUBERNETES (see tools/kube.sh) holds,
// until the test ends.
func startCluster(t *testing.T) *cluster {
	bin := os.Getenv("INTERLOCK_TEST_KUBERNETES")
	if bin == "" {
		t.Skip("INTERLOCK_TEST_KUBERNETES not set")
	}
	dir := t.TempDir()
	c := &cluster{dir: dir, http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}} //nolint:gosec // a certificate of its own making, on loopback
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	sa := put("sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	tokens := put("tokens.csv", fmt.Appendf(nil, "%s,admin,1,\"system:masters\"\n%s,agent,2\n", adminToken, agentToken))
	client, peer, api := free(t), free(t), free(t)
	start(t, dir, filepath.Join(bin, "etcd"), "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls=http://"+client, "--advertise-client-urls=http://"+client, "--listen-peer-urls=http://"+peer,
		"--initial-advertise-peer-urls=http://"+peer, "--initial-cluster=default=http://"+peer)
	_, port, _ := net.SplitHostPort(api)
	c.address = "https://" + api
	start(t, dir, filepath.Join(bin, "kube-apiserver"), "--etcd-servers=http://"+client, "--bind-address=127.0.0.1", "--secure-port="+port, "--cert-dir="+filepath.Join(dir, "certs"),
		"--token-auth-file="+tokens, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+sa, "--service-account-signing-key-file="+sa)
	until(t, "the API server", time.Minute, func() bool { return c.try("GET", "/readyz", nil, nil) == nil })
	start(t, dir, filepath.Join(bin, "kube-controller-manager"), "--kubeconfig="+c.config(t, adminToken), "--leader-elect=false", "--secure-port=0", "--service-account-private-key-file="+sa,
		"--controllers=job-controller,garbage-collector-controller,ttl-after-finished-controller,serviceaccount-controller,pod-garbage-collector-controller")
	return c
}

// space is the cluster with a namespace of its own, which takes only pods that
// need nothing, and in which the agent may do only what README.md says that it
// needs.
func (c *cluster) space(t *testing.T, name string) *cluster {
	in := &cluster{address: c.address, dir: t.TempDir(), http: c.http, ns: name}
	in.do(t, "POST", "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}, nil)
	role := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + name
	rule := func(group, resource string, verbs ...string) any {
		return map[string]any{"apiGroups": []string{group}, "resources": []string{resource}, "verbs": verbs}
	}
	in.do(t, "POST", role+"/roles", map[string]any{"metadata": map[string]any{"name": "interlock-agent"}, "rules": []any{
		rule("batch", "jobs", "create", "get", "delete"), rule("", "pods", "list", "delete"), rule("", "secrets", "create")}}, nil)
	in.do(t, "POST", role+"/rolebindings", map[string]any{"metadata": map[string]any{"name": "interlock-agent"},
		"subjects": []any{map[string]any{"kind": "User", "name": "agent", "apiGroup": "rbac.authorization.k8s.io"}},
		"roleRef":  map[string]any{"kind": "Role", "name": "interlock-agent", "apiGroup": "rbac.authorization.k8s.io"}}, nil)
	until(t, "service account", time.Minute, func() bool {
		return in.try("GET", in.core("serviceaccounts")+"/default", nil, nil) == nil
	})
	return in
}

func (c *cluster) core(resource string) string { return "/api/v1/namespaces/" + c.ns + "/" + resource }

// config is a kubeconfig of who has token.
func (c *cluster) config(t *testing.T, token string) string {
	p := filepath.Join(c.dir, token+".kubeconfig")
	b, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Config", "current-context": "x",
		"clusters": []any{map[string]any{"name": "x", "cluster": map[string]any{"server": c.address, "insecure-skip-tls-verify": true}}},
		"users":    []any{map[string]any{"name": "x", "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "x", "context": map[string]any{"cluster": "x", "user": "x", "namespace": c.ns}}}})
	if err == nil {
		err = os.WriteFile(p, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (c *cluster) try(method, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, c.address+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	if method == "PATCH" {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err = io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s %s", method, path, res.Status, b)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(b, out)
	}
	return err
}

func (c *cluster) do(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := c.try(method, path, in, out); err != nil {
		t.Fatal(err)
	}
}

func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a program until the test ends; what it prints is shown if the test
// fails.
func start(t *testing.T, dir, program string, args ...string) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(program)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b, _ := os.ReadFile(log.Name())
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(program), b[max(0, len(b)-3000):])
		}
	})
}

func until(t *testing.T, what string, within time.Duration, f func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still no %s", within, what)
		}
	}
}

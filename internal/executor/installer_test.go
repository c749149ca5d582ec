package executor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/providers"
)

func TestWhereEnginesAreSentForProviders(t *testing.T) {
	t.Parallel()
	store, err := providers.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const network, all = `url = "https://127.0.0.1:1/x/"`, `include = ["*/*/*"]`
	in := Installer{Store: store, Network: "https://127.0.0.1:1/x/", Direct: []string{"own.example:8080"}}
	for _, c := range []struct {
		name      string
		in        Installer
		env       map[string]string
		config    string
		want, not []string
	}{
		{"as usual", in, nil, "", []string{"filesystem_mirror", network, `exclude = ["own.example:8080/*/*"]`, `include = ["own.example:8080/*/*"]`}, []string{all}},
		{"a token of the run's", in, map[string]string{"TF_TOKEN_app__one_example_com": "s3cret"}, "", []string{network, `["app-one.example.com/*/*","own.example:8080/*/*"]`}, []string{"s3cret", all}},
		{"certificates of the run's", in, map[string]string{"SSL_CERT_FILE": "/x"}, "", []string{"filesystem_mirror", all}, []string{"network_mirror"}},
		{"hosts with ports", in, nil, `terraform { required_providers { a = { source = "Reg.example:8443/acme/a" } } }`, []string{network, `["own.example:8080/*/*","reg.example:8443/*/*"]`}, []string{all}},
		{"no network", Installer{Store: store, Network: network, Offline: true}, nil, "", []string{"filesystem_mirror"}, []string{"network_mirror", "direct"}},
		{"its own plugins", in, nil, "", []string{`terraform.d/plugins"`, `include = ["registry.example.com/acme/mine"]`, `exclude = ["own.example:8080/*/*","registry.example.com/acme/mine"]`}, nil},
		{"no mirror", Installer{Store: store}, nil, "", []string{"filesystem_mirror", all}, []string{"network_mirror"}},
	} {
		area, err := OpenArea(t.TempDir(), "run")
		if err == nil {
			err = os.WriteFile(filepath.Join(area.ConfigDir(), "main.tf"), []byte(c.config), 0o600)
		}
		if err == nil && c.name == "its own plugins" {
			err = os.MkdirAll(filepath.Join(area.ConfigDir(), "terraform.d/plugins/registry.example.com/acme/mine/1.0.0"), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		s := &Spec{Area: area, Providers: c.in.For(c.env)}
		p, err := s.Providers(context.Background(), ProviderRequest{Dir: area.path("in", "providers"), Ported: ported(area.ConfigDir())})
		root, rerr := os.OpenRoot(area.ConfigDir())
		if rerr != nil {
			t.Fatal(rerr)
		}
		if err == nil {
			err = writeCLIConfig(s, &p, impliedMirrors(root, s)...)
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(area.path("in", "cli.tfrc"))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(string(b), w) {
				t.Errorf("%s: %q is not in\n%s", c.name, w, b)
			}
		}
		for _, w := range c.not {
			if strings.Contains(string(b), w) {
				t.Errorf("%s: %q is in\n%s", c.name, w, b)
			}
		}
	}
}

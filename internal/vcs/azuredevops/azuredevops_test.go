package azuredevops

import (
	"strings"
	"testing"

	"interlock/internal/vcs/forge"
)

func TestPlaces(t *testing.T) {
	for in, want := range map[string]string{
		"https://dev.azure.com/acme net/_git/infra":      "https://dev.azure.com/acme /net/_apis/git/repositories/infra",
		"https://dev.azure.com acme/net/_git/infra":      "https://dev.azure.com/acme /net/_apis/git/repositories/infra",
		"https://dev.azure.com acme/_git/infra":          "https://dev.azure.com/acme /infra/_apis/git/repositories/infra",
		"https://dev.azure.com/acme _git/infra":          "https://dev.azure.com/acme /infra/_apis/git/repositories/infra",
		"https://acme.visualstudio.com My%20Net/_git/a":  "https://acme.visualstudio.com /My%20Net/_apis/git/repositories/a",
		"https://tfs.example.com/tfs/All net/_git/infra": "https://tfs.example.com/tfs/All /net/_apis/git/repositories/infra",
		"https://tfs.example.com/tfs All/net/_git/infra": "https://tfs.example.com/tfs/All /net/_apis/git/repositories/infra",
	} {
		base, repo, _ := strings.Cut(in, " ")
		f, _ := Open(forge.Connection{HTTPURL: base, APIURL: base})
		p, err := f.(client).at(repo)
		if got := p.api.Base + " " + p.path(); err != nil || got != want {
			t.Errorf("%s is at %s, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"https://dev.azure.com/acme":      "https://vssps.dev.azure.com/acme",
		"https://acme.visualstudio.com":   "https://acme.vssps.visualstudio.com",
		"https://tfs.example.com/tfs/All": "https://tfs.example.com/tfs/All",
	} {
		if got := peopleOf(in); got != want {
			t.Errorf("people of %s are asked for at %s", in, got)
		}
	}
}

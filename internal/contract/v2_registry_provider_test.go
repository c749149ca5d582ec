package contract

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	tfe "github.com/hashicorp/go-tfe"

	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

type signer struct {
	t  *testing.T
	e  *openpgp.Entity
	id string
}

func newSigner(t *testing.T) signer {
	t.Helper()
	e := must[*openpgp.Entity](t)(openpgp.NewEntity("acme", "", "release@example.com", nil))
	return signer{t, e, e.PrimaryKey.KeyIdString()}
}

func (s signer) armored(private bool) string {
	var b bytes.Buffer
	typ, write := openpgp.PublicKeyType, s.e.Serialize
	if private {
		typ = openpgp.PrivateKeyType
	}
	w, err := armor.Encode(&b, typ, nil)
	if err == nil && private {
		err = s.e.SerializePrivate(w, nil)
	} else if err == nil {
		err = write(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return b.String()
}

func (s signer) sign(what string) []byte {
	var b bytes.Buffer
	if err := openpgp.DetachSign(&b, s.e, strings.NewReader(what), nil); err != nil {
		s.t.Fatal(err)
	}
	return b.Bytes()
}

func TestV2ProvidersOfTheRegistry(t *testing.T) {
	t.Parallel()
	ours, theirs := newSigner(t), newSigner(t)
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		w := newV2World(t, dsn)
		ctx := t.Context()
		me, anyone := w.s.As(servertest.AdminToken), w.s.As("")
		must[*tfe.RegistryProvider](t)(w.c.RegistryProviders.Create(ctx, w.org, tfe.RegistryProviderCreateOptions{Name: "net", Namespace: w.org, RegistryName: tfe.PrivateRegistry}))
		id := tfe.RegistryProviderID{OrganizationName: w.org, RegistryName: tfe.PrivateRegistry, Namespace: w.org, Name: "net"}
		vid := tfe.RegistryProviderVersionID{RegistryProviderID: id, Version: "1.0.0"}
		v := must[*tfe.RegistryProviderVersion](t)(w.c.RegistryProviderVersions.Create(ctx, id, tfe.RegistryProviderVersionCreateOptions{Version: "1.0.0", KeyID: ours.id, Protocols: []string{"5.0", "6.0"}}))
		archive := []byte("what a provider is, is for the engine to say")
		sum := sha256.Sum256(archive)
		sums := hex.EncodeToString(sum[:]) + "  net_1.0.0_linux_amd64.zip\n" + strings.Repeat("0", 64) + "  net_1.0.0_linux_arm64.zip\n"
		platform := func(arch, filename string) *tfe.RegistryProviderPlatform {
			return must[*tfe.RegistryProviderPlatform](t)(w.c.RegistryProviderPlatforms.Create(ctx, vid, tfe.RegistryProviderPlatformCreateOptions{OS: "linux", Arch: arch, Shasum: hex.EncodeToString(sum[:]), Filename: filename}))
		}
		amd, arm, unlisted := platform("amd64", "net_1.0.0_linux_amd64.zip"), platform("arm64", "net_1.0.0_linux_arm64.zip"), platform("386", "net_1.0.0_linux_386.zip")
		put := func(link any, body []byte, want int) {
			t.Helper()
			anyone.Do(t, "PUT", link.(string), body).Want(t, want)
		}
		offered := func() int {
			t.Helper()
			return len(me.Get(t, "/api/registry/v1/providers/acme/net/versions").Want(t, 200).Object(t)["versions"].([]any))
		}

		// Nothing is offered until everything is there and fits.
		put(amd.Links["provider-binary-upload"], []byte("something else"), 422)
		for _, f := range []*tfe.RegistryProviderPlatform{amd, arm, unlisted} {
			put(f.Links["provider-binary-upload"], archive, 200)
		}
		put(v.Links["shasums-upload"], []byte("not a list"), 422)
		put(v.Links["shasums-upload"], []byte(sums), 200)
		put(v.Links["shasums-sig-upload"], []byte("-----BEGIN PGP SIGNATURE-----\n"), 422)
		put(v.Links["shasums-sig-upload"], theirs.sign(sums), 200) // the key has not come yet
		if offered() != 0 {
			t.Error("offered without a key")
		}
		key := must[*tfe.GPGKey](t)(w.c.GPGKeys.Create(ctx, tfe.PrivateRegistry, tfe.GPGKeyCreateOptions{Namespace: w.org, AsciiArmor: ours.armored(false)}))
		if key.KeyID != ours.id || offered() != 0 {
			t.Errorf("key %s; offered with a signature of another key: %d", key.KeyID, offered())
		}
		put(v.Links["shasums-sig-upload"], theirs.sign(sums), 422)
		put(v.Links["shasums-sig-upload"], ours.sign(sums+" "), 422)
		put(v.Links["shasums-sig-upload"], ours.sign(sums), 200)
		if offered() != 1 {
			t.Error("not offered")
		}

		// What was signed stays; what the sums do not list is not offered.
		put(v.Links["shasums-upload"], []byte(sums), 409)
		put(v.Links["shasums-sig-upload"], ours.sign(sums), 409)
		const at = "/api/registry/v1/providers/acme/net/1.0.0/download/linux/"
		got := me.Get(t, at+"amd64").Want(t, 200).Object(t)
		me.Get(t, at+"arm64").Want(t, 404)
		me.Get(t, at+"386").Want(t, 404)
		if b := anyone.Get(t, got["download_url"].(string)).Want(t, 200).Body; !bytes.Equal(b, archive) {
			t.Error("another archive comes back")
		}
		if b := anyone.Get(t, got["shasums_url"].(string)).Want(t, 200).Body; string(b) != sums {
			t.Errorf("other sums come back: %s", b)
		}
		sig := anyone.Get(t, got["shasums_signature_url"].(string)).Want(t, 200).Body
		if _, err := openpgp.CheckDetachedSignature(openpgp.EntityList{ours.e}, strings.NewReader(sums), bytes.NewReader(sig), nil); err != nil {
			t.Error(err)
		}
		read := must[*tfe.RegistryProviderVersion](t)(w.c.RegistryProviderVersions.Read(ctx, vid))
		if !read.ShasumsUploaded || !read.ShasumsSigUploaded || read.Links["shasums-upload"] != nil || read.Links["shasums-download"] == nil || len(read.RegistryProviderPlatforms) != 3 {
			t.Errorf("the version says %+v", read)
		}
		if fs := must[*tfe.RegistryProviderPlatformList](t)(w.c.RegistryProviderPlatforms.List(ctx, vid, nil)); fs.TotalCount != 3 || !fs.Items[0].ProviderBinaryUploaded {
			t.Errorf("platforms %+v", fs.Items)
		}

		// A key goes, and with it what it has signed; it comes back, and so do they.
		kid := tfe.GPGKeyID{RegistryName: tfe.PrivateRegistry, Namespace: w.org, KeyID: key.KeyID}
		must[*tfe.Organization](t)(w.c.Organizations.Create(ctx, tfe.OrganizationCreateOptions{Name: tfe.String("second"), Email: tfe.String("a@example.com")}))
		must[*tfe.GPGKey](t)(w.c.GPGKeys.Update(ctx, kid, tfe.GPGKeyUpdateOptions{Namespace: "second"}))
		if offered() != 0 {
			t.Error("offered without its key")
		}
		kid.Namespace = "second"
		must[*tfe.GPGKey](t)(w.c.GPGKeys.Update(ctx, kid, tfe.GPGKeyUpdateOptions{Namespace: w.org}))
		if offered() != 1 {
			t.Error("not offered although the key is back")
		}
		kid.Namespace = w.org
		for _, c := range []struct{ armor, says string }{
			{"", "can't be blank"}, {"nonsense", "is not an armored GPG public key"}, {theirs.armored(true), "holds a private key"},
			{ours.armored(false), "has already been taken"}, {strings.Repeat("x", 1<<18), "is too long"},
		} {
			a := me.Do(t, "POST", "/api/registry/private/v2/gpg-keys", servertest.Doc("gpg-keys", map[string]any{"namespace": w.org, "ascii-armor": c.armor})).Want(t, 422)
			if !strings.Contains(string(a.Body), c.says) {
				t.Errorf("a key: %s, want %q", a.Body, c.says)
			}
		}
		me.Get(t, "/api/registry/private/v2/gpg-keys").Want(t, 400)
		me.Get(t, "/api/registry/private/v2/gpg-keys?filter[namespace]=acme,nowhere").Want(t, 404)
		if ks := must[*tfe.GPGKeyList](t)(w.c.GPGKeys.ListPrivate(ctx, tfe.GPGKeyListOptions{Namespaces: []string{w.org, "second"}})); len(ks.Items) != 1 {
			t.Errorf("%d keys", len(ks.Items))
		}
		for body, says := range map[string]string{
			`{"version":"1.0.0","key-id":"x"}`:                   "Version has already been taken",
			`{"version":"1","key-id":"x"}`:                       "Version is not a semantic version",
			`{"version":"2.0.0"}`:                                "Key id can't be blank",
			`{"version":"2.0.0","key-id":"x","protocols":["a"]}`: "Protocols may hold only",
			`{"version":"2.0.0","key-id":"x","protocols":"a"}`:   "Protocols cannot be a string",
		} {
			a := me.Do(t, "POST", "/api/v2/organizations/acme/registry-providers/private/acme/net/versions", `{"data":{"type":"registry-provider-versions","attributes":`+body+`}}`).Want(t, 422)
			if !strings.Contains(string(a.Body), says) {
				t.Errorf("%s: %s", body, a.Body)
			}
		}
		if _, err := w.c.RegistryProviderPlatforms.Create(ctx, vid, tfe.RegistryProviderPlatformCreateOptions{OS: "linux", Arch: "amd64", Shasum: "x", Filename: "y"}); err == nil {
			t.Error("a platform is there twice")
		}
		if err := w.c.RegistryProviders.Delete(ctx, id); err != nil {
			t.Error(err)
		}
		me.Get(t, at+"amd64").Want(t, 404)
		anyone.Get(t, got["download_url"].(string)).Want(t, 404)
	})
}

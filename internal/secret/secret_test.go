package secret_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"interlock/internal/db"
	"interlock/internal/db/dbtest"
	"interlock/internal/secret"
)

func TestSealedValuesOpenOnlyInTheirPlace(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		key := bytes.Repeat([]byte{7}, secret.KeySize)
		b, err := secret.Open(t.Context(), d, key)
		if err != nil {
			t.Fatal(err)
		}
		sealed := b.Seal("variable/value/var-1", []byte("hush"))
		if bytes.Contains(sealed, []byte("hush")) {
			t.Fatal("not sealed")
		}
		again, err := secret.Open(t.Context(), d, key)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := again.Open("variable/value/var-1", sealed); err != nil || string(p) != "hush" {
			t.Errorf("got %q, %v", p, err)
		}
		if _, err := again.Open("variable/value/var-2", sealed); err == nil {
			t.Error("a value opened in another row")
		}
		sealed[len(sealed)-1] ^= 1
		if _, err := again.Open("variable/value/var-1", sealed); err == nil {
			t.Error("a changed value opened")
		}
		if again.HashToken("x") != b.HashToken("x") {
			t.Error("token hashes differ after a restart")
		}
		if _, err := secret.Open(t.Context(), d, bytes.Repeat([]byte{8}, secret.KeySize)); err == nil {
			t.Error("a wrong key was accepted")
		}
	})
}

func TestKeyFileIsMadeOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sub", "key")
	if _, err := secret.LoadKey("", file); !errors.Is(err, secret.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	a, err := secret.MakeKey(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := secret.LoadKey("", file)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("second load: %v", err)
	}
	if _, err := secret.LoadKey("/no/such/file", file); err == nil {
		t.Error("a missing key file was accepted")
	}
}

func TestTextDoesNotPrint(t *testing.T) {
	if s := fmt.Sprintf("%v %s %+v %#v", secret.Text("canary"), secret.Text("canary"), secret.Text("canary"), struct{ T secret.Text }{"canary"}); bytes.Contains([]byte(s), []byte("canary")) {
		t.Error(s)
	}
}

package app_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interlock/internal/app"
	"interlock/internal/db/dbtest"
	"interlock/internal/servertest"
)

// Whoever opens the database refuses without its key, and with another one, in
// one line, and makes no key of its own.
func TestAMissingOrWrongKeyIsRefusedAndNothingIsWritten(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, dsn string) {
		if !strings.Contains(dsn, ":") {
			dsn = "sqlite:" + dsn
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "encryption.key")
		servertest.StartIn(t, dir, dsn, "--runners=0").Stop(t)
		key, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		start := func() error {
			cfg, _, err := app.ParseConfig("server", []string{"--listen=127.0.0.1:0", "--data-dir=" + dir, "--database=" + dsn}, func(string) string { return "" }, io.Discard, nil)
			if err != nil {
				t.Fatal(err)
			}
			return app.Run(t.Context(), cfg, func(*app.Server) { t.Error("the server has started") })
		}
		commands := func() map[string]string {
			var out bytes.Buffer
			said := map[string]string{"server": start().Error()}
			args := []string{"--data-dir=" + dir, "--database=" + dsn}
			if err := app.TokenCommand(t.Context(), append([]string{"create", "--user=" + servertest.AdminName}, args...), &out); err != nil {
				said["token"] = err.Error()
			}
			if err := app.DoctorCommand(t.Context(), args, &out); err != nil {
				for line := range strings.Lines(out.String()) {
					if strings.HasPrefix(line, "WRONG  database") {
						said["doctor"] = strings.TrimSpace(line)
					}
				}
			}
			return said
		}
		check := func(want string) {
			t.Helper()
			said := commands()
			for _, c := range []string{"server", "token", "doctor"} {
				if s := said[c]; !strings.Contains(s, want) || strings.Contains(s, "\n") {
					t.Errorf("%s said %q, want one line with %q", c, s, want)
				}
			}
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		check("is missing")
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("there is a key file again: %v", err)
		}
		if err := os.WriteFile(file, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
			t.Fatal(err)
		}
		check("not the one that this database was encrypted with")
		if err := os.WriteFile(file, key, 0o600); err != nil {
			t.Fatal(err)
		}
		servertest.StartIn(t, dir, dsn, "--runners=0").Stop(t)
	})
}

package app

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func noEnv(string) string { return "" }

func TestAWrongSettingIsNamedInOneLine(t *testing.T) {
	for _, args := range [][]string{
		{"--listen", "nonsense"}, {"--listen", ":99999"}, {"--runners", "-1"}, {"--sandbox", "jail"}, {"--database", "mysql://x"},
		{"--shutdown-grace", "soon"}, {"--ip-ranges", "here"}, {"--log-level", "loud"}, {"--log-format", "xml"}, {"--object-store", "ftp://x"}, {"--base-url", "ftp://x"},
		{"--base-url", "http://h#part"}, {"--base-url", "http://h?"}, {"--base-url", "http://h:99999"}, {"--data-dir", ""},
		{"--engine-path", "/no/such/engine"}, {"--engine-mirror", "/no/such/dir"}, {"--tls-cert", "x"},
	} {
		_, _, err := ParseConfig("server", args, noEnv, io.Discard, nil)
		u, ok := err.(UsageError)
		if !ok || strings.Contains(u.Msg, "\n") || !strings.Contains(u.Msg, strings.TrimPrefix(args[0], "--")) || !strings.Contains(u.Msg, args[1]) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestAFlagBeatsTheEnvironmentBeatsTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "interlock.conf")
	if err := os.WriteFile(file, []byte("# settings\nrunners = 3\nlog-level: \"debug\"\nlog-format=json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"INTERLOCK_RUNNERS": "4", "INTERLOCK_LOG_LEVEL": "warn"}
	c, _, err := ParseConfig("server", []string{"--config", file, "--runners=5"}, func(k string) string { return env[k] }, io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Runners != 5 || c.LogLevel != "warn" || c.LogFormat != "json" || c.Listen != "127.0.0.1:8080" {
		t.Errorf("%+v", c)
	}
	if err := os.WriteFile(file, []byte("colour = blue\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ParseConfig("server", []string{"--config", file}, noEnv, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestASecretIsNotEchoed(t *testing.T) {
	for _, arg := range []string{"--database=mysql://u:canary@h/d", "--base-url=http://u:canary@h"} {
		_, _, err := ParseConfig("server", []string{arg}, noEnv, io.Discard, nil)
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v", err)
		}
	}
}

func TestTheConfigFileMayBeNamedInTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "interlock.conf")
	if err := os.WriteFile(file, []byte("runners = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"INTERLOCK_CONFIG": file}
	c, _, err := ParseConfig("server", nil, func(k string) string { return env[k] }, io.Discard, nil)
	if err != nil || c.Runners != 3 {
		t.Errorf("%+v %v", c, err)
	}
}

func TestAnAdministratorWithoutANameIsNotPassedOver(t *testing.T) {
	env := map[string]string{"INTERLOCK_ADMIN_TOKEN": "canary"}
	_, _, err := ParseConfig("server", nil, func(k string) string { return env[k] }, io.Discard, nil)
	if u, ok := err.(UsageError); !ok || !strings.Contains(u.Msg, "INTERLOCK_ADMIN_USERNAME") || strings.Contains(u.Msg, "canary") {
		t.Errorf("%v", err)
	}
}

func TestCommandsRefuseWhatTheyDoNotUnderstandAndMakeNoDatabase(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "encryption.key"), []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	data := "--data-dir=" + dir
	for _, err := range []error{
		TokenCommand(ctx, []string{"create", data, "--user=x", "--expires=-1h"}, io.Discard),
		TokenCommand(ctx, []string{"create", data, "--user=x", "more"}, io.Discard),
		DoctorCommand(ctx, []string{data, "more"}, io.Discard),
	} {
		if _, ok := err.(UsageError); !ok {
			t.Errorf("%v", err)
		}
	}
	if err := TokenCommand(ctx, []string{"create", data, "--user=x"}, io.Discard); err == nil || !strings.Contains(err.Error(), "no database") {
		t.Errorf("token create without a database: %v", err)
	}
	var out strings.Builder
	if err := DoctorCommand(ctx, []string{data, "--engine-path=/bin/true"}, &out); err == nil || !strings.Contains(out.String(), "no database") || !strings.Contains(out.String(), "WRONG  engine-path") {
		t.Errorf("%v %s", err, out.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "interlock.db")); err == nil {
		t.Error("a command that looks made a database")
	}
}

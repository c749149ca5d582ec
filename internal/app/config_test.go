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
	_, _, err := ParseConfig("server", []string{"--database", "mysql://u:canary@h/d"}, noEnv, io.Discard, nil)
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
}

package app

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"interlock/internal/blob"
	"interlock/internal/executor"
	"interlock/internal/mirror"
	"interlock/internal/outbound"
)

// Config is everything an operator can set before the start. What may change
// later is a row with a page.
type Config struct {
	Listen        string
	BaseURL       string
	TLSCert       string
	TLSKey        string
	TLSSelfSigned bool
	DataDir       string
	Database      string
	ObjectStore   string
	EncryptionKey string
	Runners       int
	EnginePath    string
	EngineMirror  string
	Sandbox       string
	Limits        executor.Limits // of every phase of a run
	RunNetwork    string          // guarded, host or none
	ShutdownGrace time.Duration
	IPRanges      []string
	OutboundAllow []netip.Prefix // private networks that may be called for users
	// Providers: who may read the mirror, where it gets what it lacks ("" the
	// registries, "none", or a mirror's URL), and hosts that are left to engines.
	ProviderMirror   string
	ProviderUpstream string
	ProviderDirect   []string
	ProviderKeep     time.Duration // what nobody used for so long goes; 0: nothing
	VCSInterval      time.Duration // between two looks at a repository
	VCSLocal         []string      // directories whose repositories may be cloned
	LogFormat        string
	LogLevel         string

	// The first site administrator, from the environment alone: a flag would
	// show the password to every user of the machine.
	Admin struct{ Username, Password, Email, Token string }
}

// UsageError is bad usage: exit status 2. An empty message is a request for
// help that has been answered.
type UsageError struct{ Msg string }

func (e UsageError) Error() string { return e.Msg }

// setting is one row of the table of settings.
type setting struct {
	name, def, help string
	set             func(c *Config, v string) error
}

func text(at func(*Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		for _, a := range allowed {
			if a == v {
				*at(c) = v
				return nil
			}
		}
		if len(allowed) > 0 {
			return errors.New("allowed: " + strings.Join(allowed, ", "))
		}
		*at(c) = v
		return nil
	}
}

// size reads a number of bytes with or without a unit.
func size(at func(*Config) *int64) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, unit := v, int64(1)
		for name, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40} {
			if t, ok := strings.CutSuffix(v, name); ok {
				n, unit = t, u
			}
		}
		k, err := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		if err != nil || k < 0 || k > 1<<62/unit {
			return errors.New("allowed: a size such as 512MiB or 4GiB; 0 for no limit")
		}
		*at(c) = k * unit
		return nil
	}
}

// settings is the table: flag, INTERLOCK_ variable and key of the config file
// have one name.
func settings() []setting {
	return []setting{
		{"listen", "127.0.0.1:8080", "address to listen on; port 0 picks a free one and prints it", func(c *Config, v string) error {
			if _, port, err := net.SplitHostPort(v); err != nil {
				return errors.New("allowed: HOST:PORT, as 127.0.0.1:8080 or :8080")
			} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
				return errors.New("allowed: a port from 0 to 65535")
			}
			c.Listen = v
			return nil
		}},
		{"base-url", "", "URL that users and signed links see (default: from the listener)", func(c *Config, v string) error {
			if v == "" {
				return nil
			}
			u, err := url.Parse(v)
			if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.ContainsAny(v, "?#") || u.Path != "" && u.Path != "/" || !validPort(u.Port()) {
				return errors.New("allowed: http://HOST[:PORT] or https://HOST[:PORT]")
			}
			c.BaseURL = u.Scheme + "://" + u.Host
			return nil
		}},
		{"tls-cert", "", "certificate file (PEM); serves HTTPS", text(func(c *Config) *string { return &c.TLSCert })},
		{"tls-key", "", "key file (PEM) of the certificate", text(func(c *Config) *string { return &c.TLSKey })},
		{"tls-self-signed", "false", "make a CA and a certificate in the data directory and serve HTTPS", func(c *Config, v string) (err error) {
			if c.TLSSelfSigned, err = strconv.ParseBool(v); err != nil {
				return errors.New("allowed: true, false")
			}
			return nil
		}},
		{"data-dir", "./interlock-data", "directory of everything that the embedded default stores", func(c *Config, v string) error {
			if v == "" || strings.ContainsRune(v, 0) {
				return errors.New("allowed: a directory that can be written to")
			}
			c.DataDir = v
			return nil
		}},
		{"database", "", "sqlite:FILE or postgres://… (default: sqlite:DATA_DIR/interlock.db)", func(c *Config, v string) error {
			if v != "" && (!strings.HasPrefix(v, "sqlite:") || v == "sqlite:") && !strings.HasPrefix(v, "postgres://") && !strings.HasPrefix(v, "postgresql://") {
				return errors.New("allowed: sqlite:FILE or postgres://USER@HOST/DATABASE")
			}
			c.Database = v
			return nil
		}},
		{"object-store", "", blob.Allowed + " (default: file:DATA_DIR/objects)", func(c *Config, v string) error {
			if v != "" {
				if err := blob.Check(v); err != nil {
					return err
				}
			}
			c.ObjectStore = v
			return nil
		}},
		{"encryption-key", "", "key (32 bytes as hex or base64) or file of a key; made in the data directory by default", text(func(c *Config) *string { return &c.EncryptionKey })},
		{"runners", strconv.Itoa(runtime.NumCPU()), "phases that this node executes at once; 0: none", func(c *Config, v string) (err error) {
			if c.Runners, err = strconv.Atoi(v); err != nil || c.Runners < 0 || c.Runners > 1000 {
				return errors.New("allowed: a number from 0 to 1000")
			}
			return nil
		}},
		{"engine-path", "", "a terraform or tofu binary to offer as its own version (default: found on PATH)", func(c *Config, v string) error {
			if fi, err := os.Stat(v); v != "" && (err != nil || fi.IsDir() || fi.Mode()&0o111 == 0) {
				return errors.New("allowed: the path of a terraform or tofu binary")
			}
			c.EnginePath = v
			return nil
		}},
		{"engine-mirror", "", "URL or directory from which engine versions are fetched (default: the official download)", func(c *Config, v string) error {
			u, err := url.Parse(v)
			web := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
			if fi, serr := os.Stat(v); v != "" && !web && (serr != nil || !fi.IsDir()) {
				return errors.New("allowed: http://…, https://… or a directory")
			}
			c.EngineMirror = v
			return nil
		}},
		{"sandbox", "auto", "isolation of runs", text(func(c *Config) *string { return &c.Sandbox }, "auto", "bwrap", "landlock", "none")},
		{"run-memory", "8GiB", "memory that the processes of one phase may hold together; 0: no limit", size(func(c *Config) *int64 { return &c.Limits.Memory })},
		{"run-disk", "20GiB", "disk that the files of one run may take; 0: no limit", size(func(c *Config) *int64 { return &c.Limits.Disk })},
		{"run-processes", "4096", "processes that one phase may have at once; 0: no limit", func(c *Config, v string) (err error) {
			if c.Limits.Processes, err = strconv.Atoi(v); err != nil || c.Limits.Processes < 0 {
				return errors.New("allowed: a number, 0 or more")
			}
			return nil
		}},
		{"run-network", networkGuarded, "what runs reach: all but the server's own services and the metadata of clouds, the networks of this host, or nothing (guarded, host, none)", func(c *Config, v string) error {
			if v != networkGuarded && v != networkHost && v != networkNone {
				return errors.New("allowed: guarded, host, none")
			}
			c.RunNetwork, c.Limits.NoNetwork = v, v == networkNone
			return nil
		}},
		{"shutdown-grace", "2m", "how long running phases may finish on SIGTERM", func(c *Config, v string) (err error) {
			if c.ShutdownGrace, err = time.ParseDuration(v); err != nil || c.ShutdownGrace < 0 {
				return errors.New("allowed: a duration such as 30s or 2m")
			}
			return nil
		}},
		{"ip-ranges", "", "networks that this server's requests come from, with commas between (default: the machine's addresses)", func(c *Config, v string) error {
			c.IPRanges = nil
			for part := range strings.SplitSeq(v, ",") {
				if part = strings.TrimSpace(part); part == "" {
					continue
				}
				p, err := netip.ParsePrefix(part)
				if err != nil {
					return errors.New("allowed: networks such as 192.0.2.0/24,2001:db8::/32")
				}
				c.IPRanges = append(c.IPRanges, p.String())
			}
			return nil
		}},
		{"outbound-allow", "", "private networks that notifications may call and repositories be in, as 10.1.0.0/16,127.0.0.1 (default: none)", func(c *Config, v string) (err error) {
			if c.OutboundAllow, err = outbound.ParseAllow(v); err != nil {
				return errors.New("allowed: addresses and networks, separated by commas, as 10.1.0.0/16,127.0.0.1")
			}
			return nil
		}},
		{"provider-mirror", mirror.Authenticated, "who may read the mirror of providers: whoever has a token, all, or nobody and runs neither", text(func(c *Config) *string { return &c.ProviderMirror }, mirror.Authenticated, mirror.Open, mirror.Off)},
		{"provider-upstream", "", "where providers come from that are not here: none, or the URL of a network mirror (default: the registry of each)", func(c *Config, v string) error {
			c.ProviderUpstream = v
			return checkUpstream(v)
		}},
		{"provider-direct", "", "hosts of registries that runs ask themselves, with commas between (default: none but this server)", func(c *Config, v string) (err error) {
			c.ProviderDirect, err = parseHosts(v)
			return err
		}},
		{"provider-keep", "1440h", "how long a provider that nobody uses is kept; 0: for good", func(c *Config, v string) (err error) {
			if c.ProviderKeep, err = time.ParseDuration(v); err != nil || c.ProviderKeep < 0 || c.ProviderKeep > 0 && c.ProviderKeep < time.Hour {
				return errors.New("allowed: a duration from 1h, as 720h; 0 keeps all")
			}
			return nil
		}},
		{"vcs-poll-interval", "30s", "how often repositories are looked at; a webhook has them looked at once", func(c *Config, v string) error {
			d, err := time.ParseDuration(v)
			if err != nil || d < time.Second || d > 24*time.Hour {
				return errors.New("allowed: a duration from 1s to 24h")
			}
			c.VCSInterval = d
			return nil
		}},
		{"vcs-local", "", "directories of this machine whose Git repositories may be named as file:// addresses, with commas between (default: none)", func(c *Config, v string) error {
			c.VCSLocal = nil
			for dir := range strings.SplitSeq(v, ",") {
				if dir = strings.TrimSpace(dir); dir == "" {
					continue
				}
				if !filepath.IsAbs(dir) {
					return errors.New("allowed: absolute paths, separated by commas")
				}
				c.VCSLocal = append(c.VCSLocal, filepath.Clean(dir))
			}
			return nil
		}},
		{"log-format", "text", "form of the log", text(func(c *Config) *string { return &c.LogFormat }, "text", "json")},
		{"log-level", "info", "what is logged", text(func(c *Config) *string { return &c.LogLevel }, "debug", "info", "warn", "error")},
	}
}

// validPort reports whether a URL's port is none or one that exists.
func validPort(p string) bool {
	n, err := strconv.Atoi(p)
	return p == "" || err == nil && n > 0 && n <= 65535
}

func envName(flag string) string {
	return "INTERLOCK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// ParseConfig reads the settings of a command: a flag wins over the
// environment, which wins over the file of --config, which wins over the
// default. All are checked; the error names the setting, the value and what is
// allowed.
func ParseConfig(command string, args []string, getenv func(string) string, out io.Writer, more func(*flag.FlagSet)) (*Config, []string, error) {
	fs := flag.NewFlagSet(command, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	file := fs.String("config", "", "file with settings, one `name = value` a line")
	given := map[string]*string{}
	for _, s := range settings() {
		help := s.help + " [" + envName(s.name) + "]"
		if s.name == "tls-self-signed" {
			v := "false"
			given[s.name] = &v
			fs.BoolFunc(s.name, help, func(x string) error { v = x; return nil })
			continue
		}
		given[s.name] = fs.String(s.name, s.def, help)
	}
	if more != nil {
		more(fs)
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(out, "Usage: interlock %s [FLAGS]\n\n", command)
			fs.SetOutput(out)
			fs.PrintDefaults()
			return nil, nil, UsageError{}
		}
		return nil, nil, UsageError{err.Error()}
	}
	if *file == "" {
		*file = getenv(envName("config"))
	}
	fromFile, err := readConfigFile(*file)
	if err != nil {
		return nil, nil, UsageError{fmt.Sprintf("setting config: %q: %v", *file, err)}
	}
	onCommand := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { onCommand[f.Name] = true })
	c := &Config{}
	for _, s := range settings() {
		v, from := s.def, "default of "+s.name
		if x, ok := fromFile[s.name]; ok {
			v, from = x, s.name+" in "+*file
			delete(fromFile, s.name)
		}
		if x := getenv(envName(s.name)); x != "" {
			v, from = x, envName(s.name)
		}
		if onCommand[s.name] {
			v, from = *given[s.name], "--"+s.name
		}
		if err := s.set(c, v); err != nil {
			return nil, nil, UsageError{fmt.Sprintf("setting %s: %q is not possible; %v", from, hideSecret(s.name, v), err)}
		}
	}
	for name := range fromFile {
		return nil, nil, UsageError{fmt.Sprintf("setting %s in %s: unknown", name, *file)}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, nil, UsageError{fmt.Sprintf("setting tls-cert: %q needs tls-key, and tls-key needs tls-cert", c.TLSCert)}
	}
	if c.TLSCert != "" && c.TLSSelfSigned {
		return nil, nil, UsageError{`setting tls-self-signed: "true" is not possible together with tls-cert`}
	}
	c.Admin.Username, c.Admin.Password = getenv("INTERLOCK_ADMIN_USERNAME"), getenv("INTERLOCK_ADMIN_PASSWORD")
	c.Admin.Email, c.Admin.Token = getenv("INTERLOCK_ADMIN_EMAIL"), getenv("INTERLOCK_ADMIN_TOKEN")
	if c.Admin.Username == "" && c.Admin.Password+c.Admin.Email+c.Admin.Token != "" {
		return nil, nil, UsageError{`setting INTERLOCK_ADMIN_USERNAME: "" is not possible while INTERLOCK_ADMIN_PASSWORD, _EMAIL or _TOKEN is set; allowed: the name of the administrator`}
	}
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return nil, nil, err
	}
	if c.Database == "" {
		c.Database = "sqlite:" + filepath.Join(c.DataDir, "interlock.db")
	}
	if c.ObjectStore == "" {
		c.ObjectStore = "file:" + filepath.Join(c.DataDir, "objects")
	}
	return c, fs.Args(), nil
}

// hideSecret keeps keys and passwords out of the error about a setting.
func hideSecret(name, v string) string {
	if name == "encryption-key" {
		return "[hidden]"
	}
	if u, err := url.Parse(v); err == nil && u.User != nil {
		return u.Redacted()
	}
	return v
}

func readConfigFile(path string) (map[string]string, error) {
	out := map[string]string{}
	if path == "" {
		return out, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.IndexAny(line, "=:")
		if i < 1 {
			return nil, fmt.Errorf("line %d is not of the form `name = value`", n)
		}
		out[strings.TrimSpace(line[:i])] = strings.Trim(strings.TrimSpace(line[i+1:]), `"`)
	}
	return out, sc.Err()
}

// logger makes the log of the program.
func (c *Config) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel))
	opt := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opt)
	if c.LogFormat == "json" {
		h = slog.NewJSONHandler(w, opt)
	}
	return slog.New(requestLog{h})
}

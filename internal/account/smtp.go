package account

import (
	"context"
	"encoding/base64"
	"strings"

	"interlock/internal/authz"
	"interlock/internal/core"
	"interlock/internal/db"
	"interlock/internal/mail"
	"interlock/internal/secret"
)

// SMTP is the mail server of the installation.
type SMTP struct {
	Enabled bool
	mail.Server
}

// storedSMTP is how the settings are kept; the password is sealed.
type storedSMTP struct {
	Enabled  bool   `json:"enabled"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Sender   string `json:"sender"`
	Auth     string `json:"auth"`
	Username string `json:"username"`
	Password string `json:"password"` // sealed, base64
}

const smtpPlace = "setting/smtp/password"

func (s *Service) smtp(ctx context.Context, tx *db.Tx) (v SMTP, err error) {
	st := storedSMTP{Port: 25, Auth: "none"}
	if err := loadSetting(ctx, tx, smtpRow, &st); err != nil {
		return v, err
	}
	v = SMTP{st.Enabled, mail.Server{Host: st.Host, Port: st.Port, Sender: st.Sender, Auth: st.Auth, Username: st.Username}}
	if st.Password == "" {
		return v, nil
	}
	sealed, err := base64.StdEncoding.DecodeString(st.Password)
	if err != nil {
		return v, err
	}
	plain, err := s.Box.Open(smtpPlace, sealed)
	v.Password = secret.Text(plain)
	return v, err
}

// SMTP returns the mail server, to a site administrator. The password is for
// sending only.
func (s *Service) SMTP(ctx context.Context) (v SMTP, err error) {
	if err := authz.SiteAdmin(ctx); err != nil {
		return v, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err = s.smtp(ctx, tx)
		return err
	})
	return v, err
}

// UpdateSMTP changes the mail server. If it is switched on and test names an
// address, a letter goes there first; when that fails nothing is changed.
func (s *Service) UpdateSMTP(ctx context.Context, change func(*SMTP), test string) (v SMTP, err error) {
	if v, err = s.SMTP(ctx); err != nil {
		return v, err
	}
	change(&v)
	if err := v.validate(); err != nil {
		return v, err
	}
	if test != "" && validEmail(test) != nil {
		return v, core.Errorf(core.Invalid, "is not a valid address").InField("test-email-address")
	}
	if v.Enabled && test != "" {
		// Outside of any transaction: a server takes its time.
		err := v.Send(ctx, mail.Letter{To: []string{test}, Subject: "Interlock: test message", Text: "This installation of Interlock can send mail.\n"})
		if err != nil {
			return v, core.Wrap(err, core.Invalid, core.Message(err)).InField("test-email-address")
		}
	}
	st := storedSMTP{v.Enabled, v.Host, v.Port, v.Sender, v.Auth, v.Username, ""}
	if p := v.Password.Reveal(); p != "" {
		st.Password = base64.StdEncoding.EncodeToString(s.Box.Seal(smtpPlace, []byte(p)))
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return saveSetting(ctx, tx, smtpRow, st) })
	return v, err
}

func (v SMTP) validate() error {
	switch {
	case v.Auth != "none" && v.Auth != "plain" && v.Auth != "login":
		return core.Errorf(core.Invalid, "must be none, plain or login").InField("auth")
	case v.Port < 1 || v.Port > 65535:
		return core.Errorf(core.Invalid, "must be from 1 to 65535").InField("port")
	case len(v.Host) > maxText || !oneWord(v.Host):
		return core.Errorf(core.Invalid, "must be a host name or an address").InField("host")
	case v.Sender != "" && validEmail(v.Sender) != nil:
		return core.Errorf(core.Invalid, "is not a valid address").InField("sender")
	case len(v.Username) > maxText || !storable(v.Username):
		return core.Errorf(core.Invalid, "must be text of at most %d bytes", maxText).InField("username")
	case len(v.Password.Reveal()) > maxPassword || !storable(v.Password.Reveal()):
		return core.Errorf(core.Invalid, "must be text of at most %d bytes", maxPassword).InField("password")
	case v.Enabled && v.Host == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("host")
	case v.Enabled && v.Sender == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("sender")
	case v.Enabled && v.Auth != "none" && v.Username == "":
		return core.Errorf(core.Invalid, "can't be blank").InField("username")
	}
	return nil
}

// SendMail sends a letter through the installation's mail server. Without one
// it is core.Conflict.
func (s *Service) SendMail(ctx context.Context, l mail.Letter) error {
	var v SMTP
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		v, err = s.smtp(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	if !v.Enabled {
		return core.Errorf(core.Conflict, "this installation has no mail server; nothing was sent")
	}
	return v.Send(ctx, l)
}

// storable reports whether text can be kept: valid and without zero bytes.
func storable(text string) bool {
	return strings.ToValidUTF8(text, "") == text && !strings.ContainsRune(text, 0)
}

func oneWord(text string) bool { return storable(text) && !strings.ContainsAny(text, " \t\r\n/@") }

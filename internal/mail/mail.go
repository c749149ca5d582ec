// Package mail sends letters through the mail server that the site
// administrators name.
package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/smtp"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/secret"
)

// Server is a mail server and how to speak to it.
type Server struct {
	Host     string
	Port     int
	Sender   string // the address that letters come from
	Auth     string // none, plain or login
	Username string
	Password secret.Text
}

// Letter is one message of plain text.
type Letter struct {
	To      []string
	Subject string
	Text    string
}

// timeout bounds one conversation with a server.
const timeout = 20 * time.Second

// Send hands a letter to the server. TLS is used where the server offers it,
// and from the start on port 465; a password goes over TLS, or to this machine,
// only. What the server refuses is told as Unavailable.
func (s Server) Send(ctx context.Context, l Letter) error {
	if err := s.send(ctx, l); err != nil {
		why := "the mail server " + s.Host + " could not be reached"
		if t, ok := errors.AsType[*textproto.Error](err); ok {
			why = fmt.Sprintf("the mail server %s refused the message: %d %.200s", s.Host, t.Code, strings.ToValidUTF8(t.Msg, "?"))
		}
		return core.Wrap(err, core.Unavailable, why)
	}
	return nil
}

func (s Server) send(ctx context.Context, l Letter) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return err
	}
	safe := &tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12}
	if s.Port == 465 {
		conn = tls.Client(conn, safe)
	}
	c, err := smtp.NewClient(conn, s.Host)
	if err != nil {
		return err
	}
	if ok, _ := c.Extension("STARTTLS"); ok && s.Port != 465 {
		if err := c.StartTLS(safe); err != nil {
			return err
		}
	}
	switch s.Auth {
	case "plain":
		err = c.Auth(smtp.PlainAuth("", s.Username, s.Password.Reveal(), s.Host))
	case "login":
		err = c.Auth(login{s})
	}
	if err != nil {
		return err
	}
	if err := c.Mail(s.Sender); err != nil {
		return err
	}
	for _, to := range l.To {
		if err := c.Rcpt(to); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(l.bytes(s.Sender)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // the letter has been taken
	return nil
}

// bytes is the letter as it goes over the wire. Addresses and subject come in
// one line each, whatever they hold.
func (l Letter) bytes(from string) []byte {
	id := make([]byte, 12)
	rand.Read(id)
	one := strings.NewReplacer("\r", " ", "\n", " ")
	_, domain, _ := strings.Cut(from, "@")
	var b strings.Builder
	for _, h := range [][2]string{
		{"From", from}, {"To", strings.Join(l.To, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", one.Replace(l.Subject))},
		{"Date", time.Now().UTC().Format(time.RFC1123Z)}, {"Message-ID", "<" + hex.EncodeToString(id) + "@" + domain + ">"},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "base64"}, {"Auto-Submitted", "auto-generated"},
	} {
		b.WriteString(h[0] + ": " + one.Replace(h[1]) + "\r\n")
	}
	b.WriteString("\r\n")
	text := base64.StdEncoding.EncodeToString([]byte(l.Text))
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	b.WriteString(text + "\r\n")
	return []byte(b.String())
}

// login is the older way to sign in: name and password when asked for them.
type login struct{ s Server }

func (a login) Start(info *smtp.ServerInfo) (string, []byte, error) {
	if ip := net.ParseIP(info.Name); !info.TLS && info.Name != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", nil, errors.New("the server offers no TLS, without which the password is not sent")
	}
	return "LOGIN", nil, nil
}

func (a login) Next(asked []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	switch q := strings.ToLower(string(asked)); {
	case strings.HasPrefix(q, "user"):
		return []byte(a.s.Username), nil
	case strings.HasPrefix(q, "pass"):
		return []byte(a.s.Password.Reveal()), nil
	}
	return nil, fmt.Errorf("the server asks for %q", asked)
}

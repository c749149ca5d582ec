package scim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"interlock/internal/core"
)

// The names of schemas and messages.
const (
	userSchema  = "urn:ietf:params:scim:schemas:core:2.0:User"
	groupSchema = "urn:ietf:params:scim:schemas:core:2.0:Group"
	listSchema  = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	patchSchema = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	errorSchema = "urn:ietf:params:scim:api:messages:2.0:Error"
)

// A fault is an error with SCIM's own word for it (RFC 7644, 3.12).
type fault struct {
	status int
	kind   string // scimType
	msg    string
}

func (f fault) Error() string { return f.msg }

func bad(kind, format string, args ...any) error {
	return fault{http.StatusBadRequest, kind, fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return fault{http.StatusConflict, "uniqueness", fmt.Sprintf(format, args...)}
}

// flag is a boolean that some directories write as text.
type flag bool

// UnmarshalJSON implements json.Unmarshaler.
func (f *flag) UnmarshalJSON(b []byte) error {
	switch strings.ToLower(strings.Trim(string(b), `"`)) {
	case "true":
		*f = true
	case "false":
		*f = false
	default:
		return bad("invalidValue", "active must be true or false")
	}
	return nil
}

type meta struct {
	Type     string    `json:"resourceType"`
	Created  time.Time `json:"created"`
	Modified time.Time `json:"lastModified"`
	Location string    `json:"location"`
}

type personName struct {
	Formatted string `json:"formatted,omitempty"`
	Family    string `json:"familyName,omitempty"`
	Given     string `json:"givenName,omitempty"`
}

type email struct {
	Value   string `json:"value"`
	Type    string `json:"type,omitempty"`
	Primary flag   `json:"primary,omitempty"`
}

// A userDoc is a user as a directory writes and reads it. What it does not
// have, among the attributes of the schema, is not kept.
type userDoc struct {
	Schemas     []string    `json:"schemas"`
	ID          core.ID     `json:"id,omitempty"`
	ExternalID  string      `json:"externalId,omitempty"`
	UserName    string      `json:"userName"`
	Name        *personName `json:"name,omitempty"`
	DisplayName string      `json:"displayName,omitempty"`
	Emails      []email     `json:"emails,omitempty"`
	Active      *flag       `json:"active,omitempty"`
	Meta        *meta       `json:"meta,omitempty"`
}

type ref struct {
	Value   core.ID `json:"value"`
	Ref     string  `json:"$ref,omitempty"`
	Display string  `json:"display,omitempty"`
}

type groupDoc struct {
	Schemas     []string `json:"schemas"`
	ID          core.ID  `json:"id,omitempty"`
	ExternalID  string   `json:"externalId,omitempty"`
	DisplayName string   `json:"displayName"`
	Members     []ref    `json:"members,omitempty"`
	Meta        *meta    `json:"meta,omitempty"`
}

const maxText = 250

func line(field, v string) error {
	if len(v) > maxText || strings.ToValidUTF8(v, "") != v || strings.ContainsAny(v, "\x00\r\n") {
		return bad("invalidValue", "%s must be a line of at most %d bytes", field, maxText)
	}
	return nil
}

// check holds a user that a directory wrote against the rules, and tidies it.
func (d *userDoc) check() error {
	d.UserName = strings.TrimSpace(d.UserName)
	if d.UserName == "" {
		return bad("invalidValue", "userName is required")
	}
	fields := map[string]string{"userName": d.UserName, "externalId": d.ExternalID, "displayName": d.DisplayName}
	if d.Name != nil {
		fields["name.formatted"], fields["name.familyName"], fields["name.givenName"] = d.Name.Formatted, d.Name.Family, d.Name.Given
	}
	if len(d.Emails) > 20 {
		return bad("invalidValue", "emails has more than 20 values")
	}
	for _, e := range d.Emails {
		fields["emails"] = fields["emails"] + e.Value
		if err := line("emails", e.Value); err != nil {
			return err
		}
		if err := line("emails.type", e.Type); err != nil {
			return err
		}
	}
	delete(fields, "emails")
	for k, v := range fields {
		if err := line(k, v); err != nil {
			return err
		}
	}
	return nil
}

// address is the e-mail address that counts: the primary one, or the first, or
// the user name if it looks like one.
func (d userDoc) address() string {
	for _, e := range d.Emails {
		if e.Primary {
			return strings.TrimSpace(e.Value)
		}
	}
	if len(d.Emails) > 0 {
		return strings.TrimSpace(d.Emails[0].Value)
	}
	if strings.Count(d.UserName, "@") == 1 {
		return d.UserName
	}
	return ""
}

// active is what a directory says of it, true where it says nothing.
func (d userDoc) active() bool { return d.Active == nil || bool(*d.Active) }

// A filter is the one kind that is understood: attribute eq "value".
type filter struct{ attr, value string }

// parseFilter reads a filter (RFC 7644, 3.4.2.2) for one of attrs.
func parseFilter(text string, attrs ...string) (f filter, err error) {
	if text = strings.TrimSpace(text); text == "" {
		return f, nil
	}
	part := strings.SplitN(text, " ", 3)
	if len(part) != 3 || !strings.EqualFold(part[1], "eq") {
		return f, bad("invalidFilter", `only filters like %s eq "value" are understood`, attrs[0])
	}
	for _, a := range attrs {
		if strings.EqualFold(strings.TrimPrefix(strings.TrimPrefix(part[0], userSchema+":"), groupSchema+":"), a) {
			f.attr = a
		}
	}
	if f.attr == "" {
		return f, bad("invalidFilter", "cannot filter by %.50q; only by %s", part[0], strings.Join(attrs, ", "))
	}
	var v any
	if err := json.Unmarshal([]byte(strings.TrimSpace(part[2])), &v); err != nil {
		return f, bad("invalidFilter", `the value of a filter is text in double quotes`)
	}
	switch v := v.(type) {
	case string:
		f.value = v
	case bool:
		f.value = strconv.FormatBool(v)
	default:
		return f, bad("invalidFilter", `the value of a filter is text in double quotes`)
	}
	return f, nil
}

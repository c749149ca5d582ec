// Package forge says what version control needs of a forge. Each forge has a
// folder of its own beside this one and speaks through the forge's own client
// library, or through rest where none will do. What a webhook says is never
// believed: it names what to ask for.
package forge

import (
	"context"
	"net/http"
	"strings"
	"time"

	"interlock/internal/core"
	"interlock/internal/secret"
)

// A Connection is what a forge is reached with.
type Connection struct {
	Provider string // as the API names it, such as github
	HTTPURL  string // for people, without a slash at the end
	APIURL   string
	Key      string      // of a GitHub app: its id, a colon, and the installation's id; elsewhere the name that goes with the token
	Token    secret.Text // or the private key of an app
	HTTP     *http.Client
}

// A Repository is one of a forge.
type Repository struct {
	Identifier string
	Default    string // branch
	URL        string // for people
}

// A Pull is a pull request, or merge request.
type Pull struct {
	Number        int64
	Title, URL    string
	Author        string
	Head, HeadSHA string // branch and commit
	HeadRepo      string // of a fork, for forges that keep its commits nowhere else
	Base          string // branch
	Open, Fork    bool
}

// The states of a commit status.
const (
	Pending = "pending"
	Success = "success"
	Failure = "failure"
	Error   = "error"
)

// A Status is what a workspace says about a commit.
type Status struct {
	State   string
	Context string // names the workspace
	Text    string
	URL     string
	Pull    int64 // that the commit is of; 0: none
}

// A Comment is one on a pull request. Author is a name for people, Person what
// the forge knows its author by, for MayWrite.
type Comment struct{ Author, Person, Body string }

// The kinds of notices.
const (
	Pushed    = "push"
	Pulled    = "pull"
	Commented = "comment"
	Other     = "other"
)

// A Notice is what a verified webhook points at.
type Notice struct {
	Delivery string // names this delivery
	Kind     string
	Pull     int64
	Comment  string // id
}

// Forge is a forge, opened with a connection.
type Forge interface {
	// User is the name of whom the token speaks for.
	User(ctx context.Context) (string, error)
	// Repositories are those that the token sees, at most a hundred.
	Repositories(ctx context.Context) ([]Repository, error)
	Repository(ctx context.Context, repo string) (Repository, error)
	// Pulls are the open ones, at most two hundred, changed last first. Their
	// commits may be named by their first digits only, that of Pull is whole.
	Pulls(ctx context.Context, repo string) ([]Pull, error)
	Pull(ctx context.Context, repo string, number int64) (Pull, error)
	// Changed are the files that a pull request changes; known is false when
	// the forge does not name all of them.
	Changed(ctx context.Context, repo string, number int64) (files []string, known bool, err error)
	PutStatus(ctx context.Context, repo, sha string, s Status) error
	// PutComment edits the comment id, or makes one if id is empty or it is gone.
	PutComment(ctx context.Context, repo string, number int64, id, text string) (string, error)
	Comment(ctx context.Context, repo string, number int64, id string) (Comment, error)
	// Comments are the ids of those made on a pull request since some time, for
	// forges that do not tell.
	Comments(ctx context.Context, repo string, number int64, since time.Time) ([]string, error)
	// MayWrite reports whether a person may push to the repository.
	MayWrite(ctx context.Context, repo, person string) (bool, error)
	PutHook(ctx context.Context, repo, url, key string) (id string, err error)
	DropHook(ctx context.Context, repo, id string) error
	// Verify checks in constant time that the bearer of key sent a webhook.
	Verify(h http.Header, body []byte, key string) (Notice, error)
}

// MaxComment is the most bytes of a comment that forges take, if nothing else
// is known of one.
const MaxComment = 60_000

// ErrForged is what Verify answers to whatever is not signed with the key.
func ErrForged() error { return core.Errorf(core.NotFound, "not found") }

// Split takes owner/name apart; the owner may hold slashes.
func Split(repo string) (owner, name string) {
	i := strings.LastIndex(repo, "/")
	if i < 0 {
		return "", repo
	}
	return repo[:i], repo[i+1:]
}

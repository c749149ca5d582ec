package blob

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// gcs is a bucket of Google Cloud Storage by its JSON API. The vendor's own
// library brings gRPC and all that it registers when a program starts: 20 MB of
// binary and 8 MB of memory for every server, also those that store elsewhere.
type gcs struct {
	http   *http.Client
	base   string // of the service, without a trailing slash
	bucket string
}

// openGCS opens gs://BUCKET[?endpoint=URL][&anonymous=true]. Credentials come
// from where the vendor's tools look: GOOGLE_APPLICATION_CREDENTIALS, the file of
// gcloud, the machine's account.
func openGCS(ctx context.Context, u *url.URL) (*blob.Bucket, error) {
	q := u.Query()
	b := &gcs{http: &http.Client{}, base: "https://storage.googleapis.com", bucket: u.Host}
	for k, v := range q {
		switch k {
		case "endpoint":
			e, err := url.Parse(v[0])
			if err != nil || e.Host == "" || e.Scheme != "https" && e.Scheme != "http" {
				return nil, fmt.Errorf("parameter endpoint: %q is no URL", v[0])
			}
			b.base = e.Scheme + "://" + e.Host
		case "anonymous":
		default:
			return nil, fmt.Errorf("unknown parameter %q; gs:// has endpoint, anonymous and prefix", k)
		}
	}
	if q.Get("anonymous") != "true" {
		c, err := google.FindDefaultCredentials(ctx, "https://www.googleapis.com/auth/devstorage.read_write")
		if err != nil {
			return nil, fmt.Errorf("no credentials for Google Cloud Storage: %w", err)
		}
		// Tokens are fetched for as long as the store is open.
		b.http = oauth2.NewClient(context.WithoutCancel(ctx), c.TokenSource)
	}
	return blob.NewBucket(b), nil
}

// gcsError is an answer that is not the wanted one.
type gcsError struct {
	status int
	text   string
}

func (e gcsError) Error() string { return fmt.Sprintf("the service answered %d: %s", e.status, e.text) }

// gcsTries is how often a request is sent in all before the store counts as out.
const gcsTries = 4

// again tells whether a request may be sent again, after a pause that grows.
func again(ctx context.Context, try int, err error) bool {
	e, ok := errors.AsType[gcsError](err)
	if ctx.Err() != nil || try+1 >= gcsTries || ok && e.status/100 != 5 && e.status != http.StatusTooManyRequests && e.status != http.StatusRequestTimeout {
		return false
	}
	select {
	case <-time.After(300 * time.Millisecond << try):
		return true
	case <-ctx.Done():
		return false
	}
}

// once sends one request. The caller closes the answer's body.
func (b *gcs) once(ctx context.Context, method, address string, header http.Header, body io.Reader, want ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	for _, w := range want {
		if res.StatusCode == w {
			return res, nil
		}
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
	return nil, gcsError{res.StatusCode, string(text)}
}

// send is once with patience, for requests without a body.
func (b *gcs) send(ctx context.Context, method, address string, header http.Header, want ...int) (*http.Response, error) {
	for try := 0; ; try++ {
		res, err := b.once(ctx, method, address, header, nil, want...)
		if err == nil || !again(ctx, try, err) {
			return res, err
		}
	}
}

func (b *gcs) object(key string) string {
	return b.base + "/storage/v1/b/" + url.PathEscape(b.bucket) + "/o/" + url.PathEscape(key)
}

// gcsObject is what the service tells of an object.
type gcsObject struct {
	Name, Size, Md5Hash, Crc32c, Etag, ContentType string
	Updated, TimeCreated                           time.Time
}

func (o gcsObject) size() int64 {
	n, _ := strconv.ParseInt(o.Size, 10, 64)
	return n
}

func (o gcsObject) md5() []byte {
	b, _ := base64.StdEncoding.DecodeString(o.Md5Hash)
	return b
}

// ErrorCode implements driver.Bucket.
func (b *gcs) ErrorCode(err error) gcerrors.ErrorCode {
	e, ok := errors.AsType[gcsError](err)
	switch {
	case !ok:
		return gcerrors.Unknown
	case e.status == http.StatusNotFound:
		return gcerrors.NotFound
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden:
		return gcerrors.PermissionDenied
	case e.status == http.StatusTooManyRequests:
		return gcerrors.ResourceExhausted
	case e.status == http.StatusPreconditionFailed:
		return gcerrors.FailedPrecondition
	}
	return gcerrors.Unknown
}

// As implements driver.Bucket; there is nothing beneath.
func (b *gcs) As(any) bool { return false }

// ErrorAs implements driver.Bucket.
func (b *gcs) ErrorAs(error, any) bool { return false }

// Close implements driver.Bucket.
func (b *gcs) Close() error { b.http.CloseIdleConnections(); return nil }

// Attributes implements driver.Bucket.
func (b *gcs) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	var o gcsObject
	if err := b.ask(ctx, b.object(key), &o); err != nil {
		return nil, err
	}
	return &driver.Attributes{ContentType: o.ContentType, CreateTime: o.TimeCreated, ModTime: o.Updated, Size: o.size(), MD5: o.md5(), ETag: o.Etag,
		AsFunc: func(any) bool { return false }}, nil
}

func (b *gcs) ask(ctx context.Context, address string, out any) error {
	res, err := b.send(ctx, "GET", address, nil, http.StatusOK)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(out)
}

// ListPaged implements driver.Bucket.
func (b *gcs) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	q := url.Values{"prefix": {opts.Prefix}, "fields": {"nextPageToken,prefixes,items(name,size,md5Hash,updated)"}}
	if opts.Delimiter != "" {
		q.Set("delimiter", opts.Delimiter)
	}
	if opts.PageSize > 0 {
		q.Set("maxResults", strconv.Itoa(opts.PageSize))
	}
	if len(opts.PageToken) > 0 {
		q.Set("pageToken", string(opts.PageToken))
	}
	var in struct {
		NextPageToken string
		Items         []gcsObject
		Prefixes      []string
	}
	if err := b.ask(ctx, b.base+"/storage/v1/b/"+url.PathEscape(b.bucket)+"/o?"+q.Encode(), &in); err != nil {
		return nil, err
	}
	page := &driver.ListPage{NextPageToken: []byte(in.NextPageToken)}
	for _, o := range in.Items {
		page.Objects = append(page.Objects, &driver.ListObject{Key: o.Name, ModTime: o.Updated, Size: o.size(), MD5: o.md5()})
	}
	for _, p := range in.Prefixes {
		page.Objects = append(page.Objects, &driver.ListObject{Key: p, IsDir: true})
	}
	return page, nil
}

// gcsReader is the body of an answer.
type gcsReader struct {
	io.ReadCloser
	about driver.ReaderAttributes
}

func (r gcsReader) Attributes() *driver.ReaderAttributes { return &r.about }
func (r gcsReader) As(any) bool                          { return false }

// NewRangeReader implements driver.Bucket.
func (b *gcs) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	h := http.Header{}
	switch {
	case length == 0:
		// There is no range of no bytes; the size is wanted all the same.
		a, err := b.Attributes(ctx, key)
		if err != nil {
			return nil, err
		}
		return gcsReader{http.NoBody, driver.ReaderAttributes{ContentType: a.ContentType, ModTime: a.ModTime, Size: a.Size}}, nil
	case length > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	res, err := b.send(ctx, "GET", b.object(key)+"?alt=media", h, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return nil, err
	}
	if h.Get("Range") != "" && res.StatusCode != http.StatusPartialContent {
		res.Body.Close()
		return nil, errors.New("the service ignored the range of a request")
	}
	about := driver.ReaderAttributes{ContentType: res.Header.Get("Content-Type"), Size: res.ContentLength}
	about.ModTime, _ = http.ParseTime(res.Header.Get("Last-Modified"))
	if r := res.Header.Get("Content-Range"); r != "" {
		if _, err := fmt.Sscanf(r[lastSlash(r):], "/%d", &about.Size); err != nil {
			res.Body.Close()
			return nil, fmt.Errorf("the service answered with the range %q", r)
		}
	}
	return gcsReader{res.Body, about}, nil
}

func lastSlash(s string) int {
	for i := len(s) - 1; i > 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return 0
}

// Delete implements driver.Bucket.
func (b *gcs) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	res, err := b.send(ctx, "DELETE", b.object(key), nil, http.StatusOK, http.StatusNoContent)
	if err == nil {
		res.Body.Close()
	}
	return err
}

// errNotOffered is of what nothing here asks a bucket for.
var errNotOffered = errors.New("this store does not offer it")

// Copy implements driver.Bucket.
func (b *gcs) Copy(context.Context, string, string, *driver.CopyOptions) error { return errNotOffered }

// SignedURL implements driver.Bucket.
func (b *gcs) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errNotOffered
}

package blob

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob://
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // s3://

	"interlock/internal/secret"
)

// Allowed says which addresses Check accepts, for people.
const Allowed = "file:DIRECTORY, s3://BUCKET[?region=…&endpoint=…&use_path_style=true&prefix=…], " +
	"gs://BUCKET[?prefix=…] or azblob://CONTAINER[?storage_account=…&domain=…&prefix=…]"

// Check tells whether address has the form of a store that Open can open.
func Check(address string) error {
	if strings.HasPrefix(address, "file:") {
		return nil
	}
	if u, err := url.Parse(address); err == nil && remote(u.Scheme) && u.Host != "" && u.User == nil && strings.Trim(u.Path, "/") == "" {
		return nil
	}
	return errors.New("allowed: " + Allowed)
}

func remote(scheme string) bool { return scheme == "s3" || scheme == "gs" || scheme == "azblob" }

// Open opens the store at address: file:DIRECTORY, or the bucket of a vendor,
// with parameters: prefix for objects that share a bucket; region, endpoint,
// use_path_style and others of gocloud's for s3; storage_account, domain and
// others of gocloud's for azblob; endpoint and anonymous for gs. Credentials come
// from the places where the vendor's own tools look: environment, profile,
// machine role.
func Open(ctx context.Context, address string, box *secret.Box) (*Store, error) {
	scheme, rest, ok := strings.Cut(address, ":")
	if !ok {
		return nil, fmt.Errorf("%q is not an address such as file:DIRECTORY", address)
	}
	if scheme != "file" {
		b, err := openRemote(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("open object store: %w", err)
		}
		return &Store{bucket: b, box: box, pulls: scheme == "azblob"}, nil
	}
	dir, err := filepath.Abs(strings.TrimPrefix(rest, "//"))
	if err != nil {
		return nil, err
	}
	b, err := fileblob.OpenBucket(dir, &fileblob.Options{
		CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite,
	})
	if err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	return &Store{bucket: b, box: box, dir: dir}, nil
}

func openRemote(ctx context.Context, address string) (*blob.Bucket, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	prefix := strings.Trim(q.Get("prefix"), "/")
	q.Del("prefix")
	// Stores other than Amazon's have no regions, but requests are signed with one.
	if u.Scheme == "s3" && !q.Has("region") && os.Getenv("AWS_REGION") == "" && os.Getenv("AWS_DEFAULT_REGION") == "" {
		q.Set("region", "us-east-1")
	}
	u.RawQuery = q.Encode()
	var b *blob.Bucket
	if u.Scheme == "gs" {
		b, err = openGCS(ctx, u)
	} else {
		b, err = blob.OpenBucket(ctx, u.String())
	}
	if err == nil && prefix != "" {
		b = blob.PrefixedBucket(b, prefix+"/")
	}
	return b, err
}

package blob

import (
	"context"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
)

// Raw opens the store at address as it lies, without encryption.
func Raw(ctx context.Context, address string) (*blob.Bucket, error) {
	if dir, ok := strings.CutPrefix(address, "file:"); ok {
		return fileblob.OpenBucket(dir, &fileblob.Options{Metadata: fileblob.MetadataDontWrite})
	}
	return openRemote(ctx, address)
}

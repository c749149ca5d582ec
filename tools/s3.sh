#!/bin/sh
# Makes sure that the S3 server for tests is in the cache and prints its path.
set -eu
cd "$(dirname "$0")"
exec ./cached-build.sh s3 github.com/versity/versitygw/cmd/versitygw versitygw

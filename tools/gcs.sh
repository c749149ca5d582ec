#!/bin/sh
# Makes sure that the server of Google Cloud Storage's API for tests is in the
# cache and prints its path.
set -eu
cd "$(dirname "$0")"
exec ./cached-build.sh gcs github.com/fsouza/fake-gcs-server fake-gcs-server

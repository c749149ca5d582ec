#!/bin/sh
# Makes sure that the pinned OpenTofu is in the cache and prints its path.
set -eu
cd "$(dirname "$0")"

# Without version.dev=no a build from source calls itself a development version.
exec ./cached-build.sh tofu github.com/opentofu/opentofu/cmd/tofu tofu \
	"-X github.com/opentofu/opentofu/version.dev=no"

#!/bin/sh
# Makes sure that the provider which tests publish is in the cache and prints
# its path.
set -eu
cd "$(dirname "$0")"
exec ./cached-build.sh provider github.com/hashicorp/terraform-provider-time terraform-provider-time

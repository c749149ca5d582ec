#!/bin/sh
# Makes sure that the OpenID provider for tests is in the cache and prints its
# path.
set -eu
cd "$(dirname "$0")"
exec ./cached-build.sh oidc github.com/zitadel/oidc/v3/example/server oidc-provider

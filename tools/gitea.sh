#!/bin/sh
# Makes sure that the forge for tests is in the cache and prints its path; what it
# reads at run time is in the folder static beside it. With "cached" it builds
# nothing: it prints nothing where there is no binary yet.
set -eu
cd "$(dirname "$0")"
version=$(awk '$1 == "code.gitea.io/gitea" { sub(/^v/, "", $2); print $2; exit }' gitea/go.mod)
base=${INTERLOCK_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or INTERLOCK_CACHE}/.cache}}
dir=$base/interlock/engines/gitea/$version
if [ "${1-}" = cached ] && { [ ! -x "$dir/gitea" ] || [ ! -d "$dir/static" ]; }; then exit 0; fi
# Its SQLite is C.
CACHED_BUILD_CGO=1 CACHED_BUILD_TAGS=sqlite,sqlite_unlock_notify \
	./cached-build.sh gitea code.gitea.io/gitea gitea "-X main.Version=$version"
if [ ! -d "$dir/static" ]; then
	source=$(cd gitea && GOFLAGS='' GOWORK=off go list -m -f '{{.Dir}}' code.gitea.io/gitea)
	rm -rf "$dir/static.$$" && mkdir "$dir/static.$$"
	cp -R "$source/options" "$source/templates" "$source/public" "$dir/static.$$/"
	chmod -R u+w "$dir/static.$$"
	mv "$dir/static.$$" "$dir/static" 2>/dev/null || rm -rf "$dir/static.$$"
fi

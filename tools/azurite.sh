#!/bin/sh
# Makes sure that Azurite, the server of Azure Blob Storage's API for tests, is
# in the cache as the lock file pins it, and prints the path of its script,
# which node runs.
set -eu
cd "$(dirname "$0")/azurite"
base=${INTERLOCK_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or INTERLOCK_CACHE}/.cache}}
dir=$base/interlock/azurite/$(cat package-lock.json | sha256sum | cut -c1-16)
script=$dir/node_modules/azurite/dist/src/blob/main.js
if [ ! -f "$script" ]; then
	command -v npm >/dev/null || { echo "azurite: npm is missing (Debian: npm)" >&2; exit 1; }
	mkdir -p "$(dirname "$dir")"
	new=$(mktemp -d "$dir.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	cp package.json package-lock.json "$new"
	(cd "$new" && npm ci --ignore-scripts --omit=dev --no-audit --no-fund >&2)
	mv -T "$new" "$dir" 2>/dev/null || [ -f "$script" ]
fi
printf '%s\n' "$script"

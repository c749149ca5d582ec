#!/bin/sh
# Makes sure that the provider whose things drift is in the cache and prints its
# path. It is ours, so it is named by what it is built from.
set -eu
cd "$(dirname "$0")/thing"
base=${INTERLOCK_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or INTERLOCK_CACHE}/.cache}}
stamp=$(cat go.mod go.sum main.go | sha256sum | cut -c1-16)
binary=$base/interlock/engines/terraform-provider-thing/$stamp/terraform-provider-thing
if [ ! -x "$binary" ]; then
	mkdir -p "$(dirname "$binary")"
	CGO_ENABLED=0 GOFLAGS='' GOWORK=off nice go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$binary.$$" . >&2
	mv -f "$binary.$$" "$binary"
fi
printf '%s\n' "$binary"

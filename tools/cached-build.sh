#!/bin/sh
# Builds the tool of one pinned module into the cache, unless it is there.
#
#   cached-build.sh DIR PACKAGE PRODUCT [LDFLAGS]
#
# CACHED_BUILD_TAGS are build tags, CACHED_BUILD_CGO=1 lets it use C.
# DIR holds go.mod and go.sum, PACKAGE is the main package, PRODUCT names both
# the folder and the binary. The version in the path is the one go.mod requires.
# The last line on stdout is the binary's path; progress goes to stderr.
set -eu

dir=$1 package=$2 product=$3 ldflags="-s -w ${4-}"

version=$(awk -v package="$package/" '
	$1 == "require" { $1 = $2; $2 = $3 }
	$2 ~ /^v[0-9]/ && index(package, $1 "/") == 1 { sub(/^v/, "", $2); print $2; exit }
' "$dir/go.mod")
if [ -z "$version" ]; then
	echo "cached-build: $dir/go.mod requires no module that holds $package" >&2
	exit 1
fi

base=${INTERLOCK_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or INTERLOCK_CACHE}/.cache}}
case $base in
/*) ;;
*) echo "cached-build: the cache's folder is '$base'; it must be an absolute path" >&2 && exit 1 ;;
esac
out=$base/interlock/engines/$product/$version
binary=$out/$product

# The stamp is written last: a binary without it is from a build that was cut off.
options=${CACHED_BUILD_TAGS:+$CACHED_BUILD_TAGS cgo=${CACHED_BUILD_CGO:-0}}
stamp=$( (printf '%s\n' "$package" "$ldflags" ${options:+"$options"} && cat "$dir/go.mod" "$dir/go.sum") | sha256sum | cut -d' ' -f1)
fresh() { [ -x "$binary" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; }

if ! fresh; then
	mkdir -p "$out"
	# Where there is no flock two builders do the work twice, which is harmless:
	# each renames a finished binary into place.
	exec 9>"$out/lock"
	if command -v flock >/dev/null 2>&1; then
		flock -n 9 || { echo "$product $version: waiting for another build" >&2 && flock 9; }
	fi
fi
if ! fresh; then
	echo "$product $version: building, once; this takes minutes" >&2
	started=$(date +%s)
	trap 'rm -f "$binary.$$"' EXIT
	trap 'exit 1' HUP INT TERM
	(cd "$dir" && CGO_ENABLED="${CACHED_BUILD_CGO:-0}" GOFLAGS='' GOWORK=off nice go build -trimpath -buildvcs=false \
		${CACHED_BUILD_TAGS:+-tags="$CACHED_BUILD_TAGS"} \
		-ldflags "$ldflags" -o "$binary.$$" "$package" 9>&-) >&2
	mv -f "$binary.$$" "$binary"
	printf '%s\n' "$stamp" >"$out/stamp.$$"
	mv -f "$out/stamp.$$" "$out/stamp"
	echo "$product $version: built in $(($(date +%s) - started)) s" >&2
fi
printf '%s\n' "$binary"

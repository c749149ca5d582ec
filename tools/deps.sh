#!/bin/sh
# Installs what the tests need from the system's packages, where it is missing:
# a C compiler (the race detector), make, git, ssh, PostgreSQL's server, bubblewrap,
# Chromium and npm. Debian and Ubuntu, as root or with passwordless sudo. It prints
# nothing when there is nothing to do. What it cannot install it names, and it
# fails if the tests cannot run without that.
set -eu

anyof() { for name; do command -v "$name" >/dev/null 2>&1 && return; done; return 1; }

have_make() { anyof make; }
have_git() { anyof git; }
have_ssh() { anyof ssh; }
have_cc() { anyof gcc clang cc && [ -e /usr/include/stdlib.h ]; }
have_postgres() {
	anyof initdb && return
	for initdb in /usr/lib/postgresql/*/bin/initdb; do [ -x "$initdb" ] && return; done
	return 1
}
have_bwrap() { anyof bwrap; }
have_npm() { anyof npm; }
have_chromium() { anyof chromium chromium-browser google-chrome google-chrome-stable headless-shell chrome; }

missing=
for need in make git ssh cc postgres bwrap chromium npm; do
	"have_$need" || missing="$missing $need"
done
[ -n "$missing" ] || exit 0

log=$(mktemp)
trap 'rm -f "$log"' EXIT
say() { echo "deps: $*" >&2; }

as_root=
installs=yes
if ! anyof apt-get; then
	say "this system has no apt-get; only Debian and Ubuntu are known here"
	installs=
elif [ "$(id -u)" != 0 ]; then
	if anyof sudo && sudo -n true 2>/dev/null; then
		as_root="sudo -n"
	else
		say "not root, and no sudo without a password"
		installs=
	fi
fi

apt() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null >"$log" 2>&1 || {
		sed 's/^/deps:   /' "$log" | tail -n 5 >&2
		return 1
	}
}

get() {
	need=$1
	shift
	say "installing $*"
	apt install -y --no-install-recommends "$@" && "have_$need"
}

# Debian starts a server on port 5432 as soon as PostgreSQL is installed. The
# tests start their own, so a machine that had none is asked not to.
no_main_cluster() {
	[ ! -e /etc/postgresql-common ] || return 0
	$as_root mkdir -p /etc/postgresql-common/createcluster.d
	echo 'create_main_cluster = false' |
		$as_root tee /etc/postgresql-common/createcluster.d/interlock-tests.conf >/dev/null
}

[ -z "$installs" ] || apt update || say "apt-get update failed; trying with the package lists there are"

status=0
for need in $missing; do
	case $need in
	make) what="make" packages="make" without= ;;
	git) what="git" packages="git" without= ;;
	ssh) what="the OpenSSH client" packages="openssh-client" without="tests of modules over SSH" ;;
	cc) what="a C compiler with its headers" packages="gcc libc6-dev" without= ;;
	postgres) what="PostgreSQL's server programs" packages="postgresql" without= ;;
	bwrap) what="bubblewrap" packages="bubblewrap" without="tests of that sandbox" ;;
	chromium) what="Chromium" packages="chromium fonts-liberation" without="tests of the pages in a browser" ;;
	npm) what="npm" packages="npm" without= ;;
	esac
	if [ -n "$installs" ]; then
		[ "$need" != postgres ] || no_main_cluster
		# shellcheck disable=SC2086 # a list of packages
		if get "$need" $packages; then continue; fi
	fi
	if [ -n "$without" ]; then
		say "MISSING $what (packages: $packages): the $without cannot run"
	else
		say "MISSING $what (packages: $packages): make test needs it"
		status=1
	fi
	if [ "$need" = chromium ] && grep -qs '^ID=ubuntu' /etc/os-release; then
		say "Ubuntu has Chromium only as a snap: run 'snap install chromium' or install Google Chrome"
	fi
done
exit $status

#!/bin/sh
# Runs a command with a PostgreSQL of its own, and removes that afterwards.
#
#   with-postgres.sh COMMAND [ARGUMENT...]
#
# COMMAND finds the server in TEST_POSTGRES_URL (a superuser, so that each test
# can have a database of its own), and its status is the script's. Commits reach
# the disk as in production unless INTERLOCK_TEST_PG_FSYNC=off.
set -eu

[ $# -gt 0 ] || { echo "usage: with-postgres.sh COMMAND [ARGUMENT...]" >&2 && exit 2; }
fail() { echo "with-postgres: $*" >&2 && exit 1; }

case ${INTERLOCK_TEST_PG_FSYNC-on} in
on | off) ;;
*) fail "INTERLOCK_TEST_PG_FSYNC is '$INTERLOCK_TEST_PG_FSYNC'; it can be on or off" ;;
esac

# The newest installed server; Debian keeps the programs off the PATH.
bin=$(for initdb in /usr/lib/postgresql/*/bin/initdb; do
	[ ! -x "$initdb" ] || dirname "$initdb"
done | sort -t/ -k5 -n | tail -n 1)
if [ -z "$bin" ]; then
	initdb=$(command -v initdb) || fail "no PostgreSQL server found; tools/deps.sh installs one"
	bin=$(dirname "$initdb")
fi

# PostgreSQL refuses to run as root.
user=
if [ "$(id -u)" = 0 ]; then
	user=nobody
	! id postgres >/dev/null 2>&1 || user=postgres
fi

# A socket's path may have 107 characters, and the server's user must reach it.
parent=${TMPDIR:-/tmp}
[ -z "$user" ] && [ ${#parent} -lt 60 ] || parent=/tmp
here=$PWD
dir=$(mktemp -d "$parent/interlock-pg.XXXXXX")

as_user=
if [ -n "$user" ]; then
	command -v setpriv >/dev/null 2>&1 || fail "started as root, it needs setpriv (package util-linux)"
	as_user="setpriv --reuid $user --regid $(id -g "$user") --init-groups"
fi

started=
finish() {
	trap '' HUP INT TERM
	if [ -n "$started" ]; then
		cd "$dir"
		$as_user "$bin/pg_ctl" -D data -m fast -t 20 stop ||
			$as_user "$bin/pg_ctl" -D data -m immediate -t 20 stop || :
	fi
	cd /
	rm -rf "$dir"
} >/dev/null 2>&1
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The server listens on the loopback interface, where everyone on the machine
# could reach it: hence a password. It is checked with md5, because a scram
# handshake is thousands of hash rounds, and tests connect often.
cd "$dir"
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
printf '%s\n' "$password" >password
[ -z "$user" ] || chown -R "$user" "$dir"
$as_user "$bin/initdb" -D data -U interlock --pwfile=password --auth-local=trust --auth-host=md5 \
	-E UTF8 --locale=C --no-sync >initdb.log 2>&1 || { cat initdb.log >&2 && fail "initdb failed"; }
cat >>data/postgresql.conf <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$dir'
max_connections = 400
fsync = ${INTERLOCK_TEST_PG_FSYNC-on}
CONF

# In a session of its own, so that Ctrl-C reaches the command alone; and should
# this script be killed outright, the server stops too.
serve=$as_user
if setpriv --pdeathsig INT true 2>/dev/null; then serve="${as_user:-setpriv} --pdeathsig INT"; fi
if command -v setsid >/dev/null 2>&1; then serve="setsid $serve"; fi

# Whether a port is free shows only when the server takes it.
tries=0
until [ -n "$started" ]; do
	tries=$((tries + 1))
	[ $tries -le 20 ] || { tail -n 5 server.log >&2 && fail "PostgreSQL does not start"; }
	port=$((10000 + $(od -An -N2 -tu2 /dev/urandom) % 20000))
	$serve "$bin/postgres" -D data -p $port >server.log 2>&1 &
	postgres=$!
	while kill -0 $postgres 2>/dev/null; do
		case $(sed -n 8p data/postmaster.pid 2>/dev/null) in
		ready*) started=yes && break ;;
		esac
		sleep 0.05
	done
done
cd "$here"

export TEST_POSTGRES_URL="postgres://interlock:$password@127.0.0.1:$port/postgres?sslmode=disable"

# In the background, so that a signal to this script reaches the command at once
# instead of when it is done. The shell would let it ignore Ctrl-C there.
exec 3<&0
if env --default-signal=INT true 2>/dev/null; then set -- env --default-signal=INT,QUIT "$@"; fi
"$@" <&3 3<&- &
command=$!
trap 'kill -HUP $command' HUP
trap 'kill -TERM $command' TERM
trap : INT
status=0
wait $command || status=$?
while kill -0 $command 2>/dev/null; do # wait returned for a signal
	status=0
	wait $command || status=$?
done
exit $status

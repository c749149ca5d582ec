#!/bin/sh
# Makes sure that the Terraform clients of the Atlas era are in the cache and
# prints their paths: 0.11.15, then 0.12.31. With an argument (tf011, tf012)
# only that one. They serve the tests; nothing that is shipped uses them.
set -eu
cd "$(dirname "$0")"

case "${1-all}" in
all) set -- tf011 tf012 ;;
tf011 | tf012) ;;
*)
	echo "usage: legacy.sh [tf011|tf012]" >&2
	exit 2
	;;
esac
for client; do # one after the other: each build uses all cores by itself
	./cached-build.sh "legacy/$client" github.com/hashicorp/terraform terraform
done

#!/bin/sh
# Makes sure that what the tests of the Kubernetes executor talk to is in the
# cache: etcd, the API server and the controllers of Kubernetes. Prints the
# folder that holds links to the three binaries.
set -eu
cd "$(dirname "$0")"
version=$(awk '$1 == "k8s.io/kubernetes" || $2 == "k8s.io/kubernetes" { sub(/.* v/, ""); sub(/ .*/, ""); print; exit }' kube/go.mod)
base=${INTERLOCK_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or INTERLOCK_CACHE}/.cache}}
dir=$base/interlock/kubernetes/$version
# The API server refuses to start as version 0.0.0.
stamped="-X k8s.io/component-base/version.gitVersion=v$version"
etcd=$(./cached-build.sh kube go.etcd.io/etcd/server/v3 etcd)
api=$(./cached-build.sh kube k8s.io/kubernetes/cmd/kube-apiserver kube-apiserver "$stamped")
controllers=$(./cached-build.sh kube k8s.io/kubernetes/cmd/kube-controller-manager kube-controller-manager "$stamped")
mkdir -p "$dir"
for binary in "$etcd" "$api" "$controllers"; do
	ln -sfn "$binary" "$dir/$(basename "$binary")"
done
printf '%s\n' "$dir"

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Build the Debian packages from a clean export of the last commit.
#
#	tools/packaging/deb.sh DIR
#
# DIR is made anew. Source and binary packages are in it afterwards, and what was said is in
# DIR/log. Needs no root. What is not committed is not in the packages; a tree that is no
# repository is taken as it is.

set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
rm -rf "$1"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
tree=$dir/ksmd-user

# Somebody else's repository (root builds in a user's) is read, not obeyed.
git() { command git -c safe.directory='*' -C "$top" "$@"; }

mkdir "$tree"
if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$top" ]; then
	git archive HEAD | tar -xf - -C "$tree"
else
	tar -cf - -C "$top" --exclude=./build --exclude=./.git . | tar -xf - -C "$tree"
fi
mv "$tree/tools/packaging/debian" "$tree/debian"
cd "$tree"
if ! DEB_BUILD_OPTIONS="parallel=$(nproc) ${DEB_BUILD_OPTIONS:-}" \
	dpkg-buildpackage -us -uc >"$dir/log" 2>&1; then
	tail -n 40 "$dir/log" >&2
	exit 1
fi
ls "$dir"/*.deb

#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Bring into the tree what a fuzzer has found, as little of it as covers the same edges.
#
#	tests/fuzz/keep.sh BUILD NAME
#
# Files whose names are words are regressions and stay as they are.

set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
build=$1 name=$2
corpus=$top/tests/fuzz/corpus/$name
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
mkdir -p "$corpus"
find "$corpus" -type f -name '*-*' -exec cp {} "$new" \;
"$build/tests/fuzz_$name" -merge=1 -use_counters=0 -detect_leaks=0 \
	"$new" "$corpus" "$build/corpus/$name" 2>&1 |
	grep -a 'MERGE-OUTER' | tail -n 1
find "$corpus" -type f ! -name '*-*' -delete
cp "$new"/* "$corpus"

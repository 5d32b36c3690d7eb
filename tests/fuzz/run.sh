#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Run the fuzzers of a build, two at a time, and report like a Check program.
#
#	tests/fuzz/run.sh BUILD SECONDS [NAME...]
#
# Each starts from its corpus in the tree and from whatever made it fail before (BUILD/crashes), so
# that a failure stays one until it is mended. What it found new goes to BUILD/corpus/NAME and is
# begun from the next time; `tests/fuzz/keep.sh` brings the part that adds coverage into the tree.

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd) || exit 2
seconds=$2
shift 2
[ $# -gt 0 ] || set -- agent control engine labels session
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:symbolize=1
export ASAN_SYMBOLIZER_PATH=${ASAN_SYMBOLIZER_PATH:-$(command -v llvm-symbolizer)}
export UBSAN_OPTIONS=print_stacktrace=1
mkdir -p "$build/logs" "$build/crashes"

one()
{
	local name=$1 log=$build/logs/fuzz_$1 own=$build/corpus/$1 dict=$top/tests/fuzz/$1.dict
	local seed=$((RANDOM * 32768 + RANDOM + 1)) rc=0 old

	mkdir -p "$own"
	: >"$log"
	for old in "$build/crashes/$name"-*; do
		[ ! -e "$old" ] || "$build/tests/fuzz_$name" "$old" >>"$log" 2>&1 || rc=1
	done
	[ $rc -ne 0 ] || "$build/tests/fuzz_$name" -seed=$seed -max_total_time="$seconds" \
		-max_len=512 -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=1 \
		-artifact_prefix="$build/crashes/$name-" $([ ! -e "$dict" ] || echo "-dict=$dict") \
		"$own" "$top/tests/fuzz/corpus/$name" >>"$log" 2>&1 || rc=1
	[ $rc -eq 0 ] && verdict=ok || verdict=FAILED
	printf '%s %s: seed %s, %s runs, %s\n' "$verdict" "$name" \
		"$seed" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
		"$(grep -ao 'cov: [0-9]* ft: [0-9]* corp: [0-9]*' "$log" | tail -n 1)"
	[ $rc -eq 0 ] ||
		grep -aE 'must hold|ERROR: |runtime error:|Test unit written|^    #' "$log" |
		head -n 40 | sed "s/^/  /; s/ERROR:/ERROR: $name:/"
}
export -f one
export build seconds top

out=$(printf '%s\n' "$@" | xargs -P 2 -I{} bash -c 'one {}')
echo "$out"
failed=$(grep -c '^FAILED' <<<"$out")
echo "$(((($# - failed) * 100) / $#))%: Checks: $#, Failures: $failed, Errors: 0"
[ "$failed" -eq 0 ]

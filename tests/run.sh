#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Run test binaries and count.
#
#	tests/run.sh [--label NAME] [--build DIR] [--results FILE] -- BINARY...
#	tests/run.sh --total FILE
#
# Every binary runs in a process group of its own under a time limit, with its output kept in
# DIR/logs/. Check's last line ("100%: Checks: 12, Failures: 0, Errors: 0") says how many tests
# there were; a line "SKIP: reason" counts one skipped; an exit status other than 0, a time-out, a
# crash or no line of Check at all is at least one failure. Counts are appended to FILE as
# "passed failed skipped", and after them, behind a "|", what is said of a binary that fails or
# skips; --total says that again, adds up, prints the one line and sets the exit status. (A run
# with --results therefore exits 0 whatever the tests did; without, it prints its own total.)
# Nothing is run twice: a test that fails under load has a deadline where it needs a condition.
#
# The binaries find what they test through KSM_BUILD (absolute).

set -u

LIMIT=${KSM_TEST_TIMEOUT:-600}
label=plain build=build results=

total()
{
	awk '/^\|/ { print substr($0, 2); next }
	     { p += $1; f += $2; s += $3 }
	     END {
		printf "%d passed, %d failed, %d skipped\n", p, f, s
		exit f > 0 || p == 0
	     }' "$1"
}

while [ $# -gt 0 ]; do
	case $1 in
	--label) label=$2; shift 2 ;;
	--build) build=$2; shift 2 ;;
	--results) results=$2; shift 2 ;;
	--total) total "$2"; exit ;;
	--) shift; break ;;
	*) echo "tests/run.sh: unknown argument $1" >&2; exit 2 ;;
	esac
done

build_abs=$(cd "$build" && pwd) || exit 2
top=$(cd "$(dirname "$0")/.." && pwd)
logs=$build_abs/logs
mkdir -p "$logs"
own=
[ -n "$results" ] || results=$(mktemp) own=1

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=0:abort_on_error=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
tsan_opt=halt_on_error=0:second_deadlock_stack=1
[ ! -f "$top/tests/tsan.supp" ] || tsan_opt=$tsan_opt:suppressions=$top/tests/tsan.supp
export TSAN_OPTIONS=${TSAN_OPTIONS:-$tsan_opt}

# The thread sanitizer of gcc 12 cannot place its shadow under 32 bits of randomisation.
wrap=()
[ "$label" != tsan ] || wrap=(setarch "$(uname -m)" -R)

# Lines that say what failed: Check's, the sanitizers', harness_die()'s, the house's, and what the
# programs' tier shows of a failed test (tier.py, state()).
telling=':[FE]:|ERROR: |WARNING: ThreadSanitizer|runtime error:|^[^ :]+:[0-9]+: |^STATE: '

running=
stop()
{
	[ -z "$running" ] || kill -KILL -- "-$running" 2>/dev/null
	exit 130
}
trap stop INT TERM

# setsid: timeout and everything the test starts are one group, which goes as a whole.
execute()
{
	local rc

	setsid timeout --kill-after=10 "$LIMIT" "${wrap[@]}" "$1" >"$2" 2>&1 </dev/null &
	running=$!
	wait "$running" 2>/dev/null
	rc=$?
	kill -KILL -- "-$running" 2>/dev/null
	running=
	return "$rc"
}

# One line, and what failed or was skipped below it. Uses the variables of run_one().
say_result()
{
	printf '%-6s %-34s %4d passed %3d failed %3d skipped %5d s%s\n' \
		"$label" "$name" "$passed" "$failed" "$skipped" "$((SECONDS - start))" "$note"
	if [ "$failed" -gt 0 ]; then
		grep -E "$telling|[Aa]ssert" "$log" | head -n 40 | sed 's/^/    /'
		echo "    log: $log"
	fi
	grep '^SKIP:' "$log" | sort | uniq -c | sed 's/^ *\([0-9]*\) /    \1 x /'
}

run_one()
{
	local bin=$1 name log start rc checks failures errors skipped failed passed note=
	name=$(basename "$bin")
	log=$logs/$name.log
	start=$SECONDS

	# Of the units only that suite has threads; the others would take minutes to show nothing.
	unset CK_RUN_SUITE
	[ "$label/$name" != tsan/unit ] || export CK_RUN_SUITE=threads

	# A program that is not built with the sanitizer brings its own library; only the daemon is.
	unset KSM_DAEMON
	export KSM_BUILD=$build_abs
	case $bin in
	"$build"/*) ;;
	*)
		export KSM_DAEMON=$build_abs/ksmd-user
		KSM_BUILD=$(cd "${bin%/tests/*}" && pwd)
		;;
	esac

	execute "$bin" "$log"
	rc=$?
	skipped=$(grep -c '^SKIP:' "$log")
	read -r checks failures errors < <(
		n='([0-9]+)'
		sed -nE "s/^[0-9]+%: Checks: $n, Failures: $n, Errors: $n\$/\1 \2 \3/p" "$log" |
			awk '{ c += $1; f += $2; e += $3 } END { if (NR) print c, f, e }')
	if [ -z "${checks:-}" ]; then
		# Not a Check program, or one that did not get to its end.
		checks=1 failures=0 errors=0
		[ "$rc" -ne 0 ] || [ "$skipped" -gt 0 ] || {
			grep -q '^PASS' "$log" || { failures=1; note=' (no result line)'; }
		}
		if [ "$rc" -eq 0 ] && [ "$skipped" -gt 0 ]; then
			checks=$skipped
		fi
	fi
	failed=$((failures + errors))
	if [ "$rc" -ne 0 ] && [ "$failed" -eq 0 ]; then
		failed=1
		[ "$checks" -gt 0 ] || checks=1
	fi
	case $rc in
	0) ;;
	124 | 137) note=" (no end within $LIMIT s)" ;;
	*) note=" (exit status $rc)" ;;
	esac
	# A skipped test returns normally, so Check counts it among its checks.
	[ "$skipped" -le "$((checks - failed))" ] || skipped=$((checks - failed))
	passed=$((checks - failed - skipped))
	echo "$passed $failed $skipped" >>"$results"

	say_result >"$logs/$name.said"
	cat "$logs/$name.said"
	if [ -z "$own" ] && [ "$((failed + skipped))" -gt 0 ]; then
		sed 's/^/|/' "$logs/$name.said" >>"$results"
	fi
}

for bin in "$@"; do
	run_one "$bin"
done

if [ -n "$own" ]; then
	total "$results"
	rc=$?
	rm -f "$results"
	exit $rc
fi
exit 0

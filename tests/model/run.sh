#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Check the models of grace periods and of isolation, then check that they fail without each of
# their protections.
#
#	tests/model/run.sh DIR
#
# Every interleaving within the bounds is tried: two processes with three epochs, and with two when
# they may change their domain. States are remembered by 96 bits of hash each (-DHC4), so that two
# minutes and a GiB suffice; a collision among 3e7 of them has a chance of 1 in 1e14. Two run at a
# time. Reports like a Check program; what spin said is in DIR.

set -u

models=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1" || exit 2
export models

# verify MODEL NAME WANTED_ERRORS FLAGS...
verify()
{
	local model=$models/$1.pml name=$1_$2 want=$3 errors
	shift 3

	rm -rf "$name" && mkdir "$name" && cd "$name" || exit 2
	{
		spin -a "$@" "$model" &&
			${CC:-cc} -O2 -w -DSAFETY -DHC4 -DMEMLIM=1800 -o pan pan.c &&
			./pan -m1000000 -w24
	} >log 2>&1
	errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' log)
	# Searched to the end, and with the outcome that was wanted.
	if grep -q 'max search depth too small\|memory limit\|hash table full' log ||
		[ "${errors:-none}" != "$want" ] ||
		{ [ "$want" = 1 ] && ! grep -q 'assertion violated' log; }; then
		echo "FAILED: $name: $want errors wanted, got ${errors:-none}: $PWD/log"
		grep -m 5 'error\|violated\|limit' log
	else
		states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' log)
		echo "ok: $name: errors: $errors, $states states"
	fi
}
export -f verify

two='-DNPROC=2 -DEPOCHS=3'
moves='-DNPROC=2 -DEPOCHS=2 -DMOVES'
out=$({
	echo "grace complete 0 $two"
	echo "grace complete_moves 0 $moves"
	for broken in OLDER STALE SWAP UNCONFIRMED INHERIT EARLY_DROP GRACE; do
		echo "grace BROKEN_$broken 1 $two -DBROKEN_$broken"
	done
	echo "grace BROKEN_FOREIGN 1 $moves -DBROKEN_FOREIGN"
	echo "isolate complete 0 -DMOVERS=3"
	for broken in TWICE FREE CLEAR JOIN STALE TOUCH; do
		echo "isolate BROKEN_$broken 1 -DBROKEN_$broken"
	done
} | xargs -P 2 -L 1 bash -c 'verify "$@"' -)
echo "$out"
checks=$(grep -c '^ok: \|^FAILED: ' <<<"$out")
failed=$((checks - $(grep -c '^ok: ' <<<"$out")))
[ "$checks" -eq 17 ] || failed=$((17 - checks + failed)) checks=17
echo "$((((checks - failed) * 100) / checks))%: Checks: $checks, Failures: $failed, Errors: 0"
[ "$failed" -eq 0 ]

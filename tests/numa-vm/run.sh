#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Boot machines with several NUMA nodes and run the suites of guest.c there (vm.py).
#
#	tests/numa-vm/run.sh BUILD
#
# The kernel is kept in BUILD/vm-kernel. Where it cannot be had this skips and says so.

build=$1
here=$(dirname "$0")
failed=0

boot()
{
	python3 -B "$here/vm.py" --cache "$build/vm-kernel" \
		--add "$build/tests/numa-vm/init:/init" --add "$build/ksmd-user:/ksm/ksmd-user" \
		--program "$build/tests/numa-vm/guest:/ksm/guest" "$@"
	case $? in
	0) ;;
	77) exit 0 ;;
	*) failed=1 ;;
	esac
}

boot 2x512,2x512 formulas placement following migration drain cpuset clients
# Unequal distances between four, and a node without CPUs beside one without memory.
boot 1x256,1x256,1x256,1x256 formulas
boot 2x512,1x512,0x256,1x0 formulas absent lone
# Memory and CPUs that come and go.
boot 2x512,1x512,1x+256 coming
# A minute of torture, in which frames move all the time.
boot --add "$build/ksm-run:/ksm/ksm-run" \
	--add "$build/libksm-preload.so:/ksm/libksm-preload.so" \
	--add "$build/tests/torture:/ksm/tests/torture" \
	2x512,2x512 torture 60 "$(date +%s)"
exit $failed

#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The unit tests under valgrind's memcheck, without the suites that take long there (random steps,
# memory measurements, threads) and are under the sanitizers anyway. Finds what these do not: the
# use of memory that was never written.
#
#	tests/valgrind.sh UNIT
#
# Seen to fail: with array_bytes() of src/engine/mm.c eight bytes short.

set -u

rc=0
for suite in ctree slab pool knobs advisor region merge scan vma; do
	CK_RUN_SUITE=$suite CK_FORK=no valgrind --quiet --error-exitcode=9 --leak-check=full \
		--show-leak-kinds=definite --errors-for-leak-kinds=definite "$1" || {
		echo "ERROR: suite $suite"
		rc=1
	}
done
exit $rc

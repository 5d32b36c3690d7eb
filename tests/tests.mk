# SPDX-License-Identifier: MIT
# What the sanitizer runs leave out (see the Makefile).
# The preloaded object goes into programs that do not carry a sanitizer's run time.
ASAN_SKIP += test_preload test_kernel_selftests test_newcomer test_probes test_readme test_unseen
# Slow, and about input that seldom changes: not in the quick loop.
CHECK_SKIP += test_client_socket test_lifecycle
# It waits for clients that never answer.
CHECK_SKIP += test_unmerge
# The benchmark's own sums, but main() and what it needs alone.
BENCH_SUMS := $(filter-out %/ksm-bench.c %/frames.c,$(BENCH_SRC))
$(BUILD)/tests/functional/test_bench: $(call objs,$(BENCH_SUMS))
LIBS_test_bench = -lm
# A minute of its own.
CHECK_SKIP += torture
# A thousand processes, and memory that is measured from outside.
ASAN_SKIP += test_limits
CHECK_SKIP += test_limits
# Each step of each life, of which every run takes some.
CHECK_SKIP += test_faults test_call_faults
# Packages have no sanitizer in them, and take a minute to build.
ASAN_SKIP += test_package
CHECK_SKIP += test_package
# It boots a system, into which it installs what is built without a sanitizer.
ASAN_SKIP += test_systemd
# Sanitizers' run times do not bear the faults, nor being traced at their end.
ASAN_SKIP += test_start_faults test_call_faults
# A virtual machine, into which it puts what is built without a sanitizer.
ASAN_SKIP += test_criu
CHECK_SKIP += test_criu

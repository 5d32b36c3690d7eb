# What the sanitizer runs leave out (see the Makefile).
# The preloaded object goes into programs that do not carry a sanitizer's run time.
ASAN_SKIP += test_preload

# SPDX-License-Identifier: MIT
#
# Build, test, demonstrate and install ksmd-user. `make help` lists the targets.
#
# Sources are found by wildcard, so that a new file in a directory of the project needs no change
# here. Everything that is built goes to $(BUILD); the sanitizer and clang builds are the same
# Makefile run again with another $(BUILD). A change of compiler or flags rebuilds (see $(STAMP)).

VERSION   := 0.1.0
SOVERSION := 0

BUILD     ?= build
CC        := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
CFLAGS    ?= -O2 -g
WARNINGS  ?= -Wall -Wextra -Werror
# Clang alone: who holds which lock (src/base/guard.h).
GUARDS    := -Wthread-safety
PREFIX    ?= /usr/local
DESTDIR   ?=
PKGCONFIG ?= pkg-config
OBJCOPY   ?= objcopy
SANITIZE  ?=

bindir     = $(PREFIX)/bin
libdir     = $(PREFIX)/lib
includedir = $(PREFIX)/include
mandir     = $(PREFIX)/share/man
pcdir      = $(libdir)/pkgconfig
preloaddir = $(libdir)/ksmd-user
benchdir   = $(PREFIX)/share/ksmd-user/ksm-bench-python
bashdir    = $(PREFIX)/share/bash-completion/completions
zshdir     = $(PREFIX)/share/zsh/site-functions
fishdir    = $(PREFIX)/share/fish/vendor_completions.d

CPPFLAGS_ALL = -DURCU_INLINE_SMALL_FUNCTIONS -Iinclude -Isrc -I. -D_GNU_SOURCE \
	       -DKSMD_VERSION='"$(VERSION)"' $(CPPFLAGS)
CFLAGS_ALL   = -std=gnu11 $(WARNINGS) $(CFLAGS) $(SANITIZE) -pthread
LDFLAGS_ALL  = $(LDFLAGS) $(SANITIZE) -pthread

# Code that runs inside other people's programs: only ksm_* may be seen (the rest is hidden), and
# thread-local variables must not need __tls_get_addr(), which allocates.
CLIENT_CFLAGS  = -fPIC -fvisibility=hidden -ftls-model=initial-exec
# Interposers are called before the C library is ready; the compiler must not turn a loop into a
# call of a function that is being interposed.
PRELOAD_CFLAGS = $(CLIENT_CFLAGS) -fno-builtin

# Looked up when first needed, after tools/setup.sh had its chance to install pkg-config.
URCU_LIBS   = $(shell $(PKGCONFIG) --libs liburcu liburcu-cds 2>/dev/null || \
		echo -lurcu -lurcu-common -lurcu-cds)
CHECK_LIBS  = $(shell $(PKGCONFIG) --libs check 2>/dev/null || echo -lcheck -lsubunit -lrt -lm)
FUSE_CFLAGS = $(shell $(PKGCONFIG) --cflags fuse3 2>/dev/null || echo -I/usr/include/fuse3)
HTTP_LIBS   = $(shell $(PKGCONFIG) --libs libmicrohttpd 2>/dev/null || echo -lmicrohttpd)
FUSE_LIBS   = $(shell $(PKGCONFIG) --libs fuse3 2>/dev/null || echo -lfuse3)
DAEMON_LIBS = $(URCU_LIBS) -lxxhash -lnuma -lseccomp -lsystemd -lpthread
BENCH_LIBS  = $(DAEMON_LIBS) -lm
TEST_LIBS   = $(CHECK_LIBS) $(DAEMON_LIBS)

O     := $(BUILD)/obj
STAMP := $(O)/flags
comma := ,
objs   = $(patsubst %.c,$(O)/%.o,$(1))

BASE_SRC    := $(wildcard src/base/*.c)
POOL_SRC    := $(wildcard src/pool/*.c)
ENGINE_SRC  := $(wildcard src/engine/*.c)
DAEMON_SRC  := $(filter-out src/daemon/main.c,$(wildcard src/daemon/*.c))
NUMA_SRC    := $(wildcard numa/*.c)
CLIENT_SRC  := $(wildcard src/client/*.c)
PRELOAD_SRC := $(wildcard src/preload/*.c)
BENCH_SRC   := $(wildcard tools/bench/*.c)
KSMDCTL_SRC := $(wildcard tools/control/*.c tools/memory/*.c tools/ksmdctl/*.c)
KSMD_FS_SRC := $(wildcard tools/control/*.c tools/ksmd-fs/*.c)
METRICS_SRC := $(wildcard tools/ksmd-metrics/*.c)
KSM_RUN_SRC := $(wildcard tools/ksm-run.c tools/ksm-run/*.c tools/memory/*.c) src/preload/target.c
UNIT_SRC    := $(wildcard tests/unit/*.c)
# The torture: actors come in two kinds, its schedule in one (see tests/torture/torture.c).
ACTOR_SRC   := $(addprefix tests/torture/,common.c world.c actor.c \
		 area.c) $(wildcard tests/torture/ops_*.c)
FUNC_SRC    := $(wildcard tests/functional/test_*.c)
FUNC_PY     := $(wildcard tests/functional/test_*.py)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
FUZZLIB_SRC := $(filter-out $(FUZZ_SRC),$(wildcard tests/fuzz/*.c))
TORTURE_SRC := tests/torture/common.c $(filter-out $(ACTOR_SRC) $(wildcard \
		 tests/torture/calls_*.c),$(wildcard tests/torture/*.c))
TESTLIB_SRC := $(filter-out tests/lib/tsan_volatile.c,$(wildcard tests/lib/*.c))
# What runs on several NUMA nodes, inside a virtual machine (tests/numa-vm/run.sh).
VM_SRC      := $(filter-out %/init.c %/beat.c,$(wildcard tests/numa-vm/*.c))
ALL_SRC     := $(sort $(wildcard src/*/*.c numa/*.c tools/*.c tools/*/*.c tests/*/*.c))
MAN_SRC     := $(wildcard docs/man/*.[1-8])
# Units and the like, which a package or an operator puts where the system wants them.
PACKAGING := $(filter-out %/debian %/deb.sh,$(wildcard tools/packaging/*))

FUNC_NAMES  := $(sort $(notdir $(basename $(FUNC_SRC) $(FUNC_PY))))
FUNC_BIN    := $(addprefix $(BUILD)/tests/functional/,$(FUNC_NAMES))
UNIT_BIN    := $(if $(UNIT_SRC),$(BUILD)/tests/unit)
# With a sanitizer's run time in it an actor cannot do what it is there for.
TORTURE_BIN := $(if $(SANITIZE),,$(BUILD)/tests/torture/torture)
HOUSE_BIN   := $(if $(SANITIZE),,$(BUILD)/tests/house)
ACTOR_BIN   := $(if $(SANITIZE),,$(addprefix $(BUILD)/tests/torture/actor-,ksm plain))

VM_BIN      := $(addprefix $(BUILD)/tests/numa-vm/,init guest)

# What `make test` leaves out of a sanitizer run, and `make check` leaves out as slow. Names of
# binaries without directory. tests/tests.mk may add to these, and give a test more objects or
# libraries with LIBS_<name>.
# The thread sanitizer's run time does not survive the forks of most tests; these run as they are,
# against a daemon that is built with it. So does the torture, with both sanitizers: a report makes
# the daemon end with an error, which is a failure of the torture.
# (The unit tests run beside a test that a busy processor does not disturb.)
ASAN_SKIP   := unit
TSAN_DAEMON := test_memory test_lifecycle test_semantics test_shares test_held_up test_trust \
	       test_giving_up test_migrate test_offline test_compaction test_movers test_stop
TSAN_OWN     = $(addprefix $(BUILD)/tsan/tests/,unit functional/test_control \
		 functional/test_client_socket)
CHECK_SKIP  :=
-include tests/tests.mk

ASAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# Volatile accesses are how liburcu publishes pointers, and callbacks are the library's:
# tests/lib/tsan_volatile.c.
TSAN_FLAGS := -fsanitize=thread -fno-omit-frame-pointer --param tsan-distinguish-volatile=1
TSAN_OBJ   := $(if $(findstring thread,$(SANITIZE)),$(BUILD)/obj/tests/lib/tsan_volatile.o)

PROGRAMS := $(addprefix $(BUILD)/,ksmd-user ksmdctl ksmd-fs ksmd-metrics ksm-run ksm-bench)
LIBS     := $(addprefix $(BUILD)/,libksm.so libksm.a)
# What ksm-bench decides and reports with: a folder of Python, which is run as it is.
BENCH_PY := $(wildcard tools/bench/python/*.py)
BENCH_DIR := $(BUILD)/ksm-bench-python
# The preloaded object goes into programs that do not carry a sanitizer's run time.
PRELOAD  := $(if $(SANITIZE),,$(BUILD)/libksm-preload.so)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all help run test check bench bench-docs install uninstall clean asan tsan clang \
	format-check tidy house vm tests run-tests torture faults fuzz fuzz-build fuzzers model \
	deb setup-build setup-run setup-test setup-fuzz setup-model setup-deb \
	setup-programs programs setup-bench bench-programs view bench-numa-vm FORCE

## all           everything, into build/ (default)
all: $(PROGRAMS) $(LIBS) $(PRELOAD) $(BENCH_DIR)

## help          this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)
	@echo
	@echo 'Variables: CC CFLAGS LDFLAGS WARNINGS BUILD PREFIX DESTDIR'

# ---- compiling -----------------------------------------------------------------------------

# Holds the command line; rewritten (and everything rebuilt) only when that changes.
$(STAMP): FORCE
	@mkdir -p $(@D)
	@new='$(subst ','\'',$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(CLIENT_CFLAGS))'; \
	new="$$new "'$(subst ','\'',$(LDFLAGS_ALL))'; \
	test "$$(cat $@ 2>/dev/null)" = "$$new" || printf '%s\n' "$$new" >$@

compile = @mkdir -p $(@D); echo '  CC    $<'; \
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(1) -MMD -MP -c -o $@ $<

$(O)/src/client/%.o: src/client/%.c $(STAMP)
	$(call compile,$(CLIENT_CFLAGS))

$(O)/src/preload/%.o: src/preload/%.c $(STAMP)
	$(call compile,$(PRELOAD_CFLAGS))

$(O)/tests/%.o: tests/%.c $(STAMP)
	$(call compile,-Itests)

$(O)/%.o: %.c $(STAMP)
	$(call compile,)

-include $(patsubst %.c,$(O)/%.d,$(ALL_SRC))

# ---- linking -------------------------------------------------------------------------------

link = @mkdir -p $(@D); echo '  LINK  $@'; \
	$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o %.a,$^) $(TSAN_OBJ) $(1)
ar = @mkdir -p $(@D); echo '  AR    $@'; rm -f $@; $(AR) rcs $@ $(filter %.o,$^)

$(PROGRAMS) $(LIBS) $(UNIT_BIN) $(FUNC_BIN): | $(TSAN_OBJ)

# Everything of the service but main(): for the daemon, the unit tests and the benchmarks.
CORE       := $(O)/libcore.a
# The client library with its internals, for tests of them.
CLIENT_INT := $(O)/libclient.a

$(CORE): $(call objs,$(BASE_SRC) $(POOL_SRC) $(ENGINE_SRC) $(DAEMON_SRC) $(NUMA_SRC))
	$(ar)

$(CLIENT_INT): $(call objs,$(CLIENT_SRC))
	$(ar)

$(BUILD)/ksmd-user: $(O)/src/daemon/main.o $(CORE)
	$(call link,$(DAEMON_LIBS))

$(BUILD)/ksmdctl: $(call objs,$(KSMDCTL_SRC))
	$(call link,)

# Every other program does without libfuse.
$(O)/tools/ksmd-fs/%.o: tools/ksmd-fs/%.c $(STAMP)
	$(call compile,$(FUSE_CFLAGS))

$(BUILD)/ksmd-fs: $(call objs,$(KSMD_FS_SRC))
	$(call link,$(FUSE_LIBS) -lsystemd -lpthread)

$(BUILD)/ksmd-metrics: $(call objs,$(METRICS_SRC))
	$(call link,$(HTTP_LIBS) -lpthread)

$(BUILD)/ksm-run: $(call objs,$(KSM_RUN_SRC))
	$(call link,)

$(BUILD)/ksm-bench: $(call objs,$(BENCH_SRC)) $(CORE) $(CLIENT_INT)
	$(call link,$(BENCH_LIBS))

$(BENCH_DIR):
	@mkdir -p $(@D); ln -sfn $(CURDIR)/tools/bench/python $@

$(BUILD)/libksm.so: $(call objs,$(CLIENT_SRC)) src/client/libksm.map
	$(call link,-shared -Wl$(comma)-soname$(comma)libksm.so.$(SOVERSION) \
		-Wl$(comma)--version-script=src/client/libksm.map -Wl$(comma)-z$(comma)nodelete \
		$(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs))
	@ln -sf libksm.so $@.$(SOVERSION)

# One object whose hidden symbols are local, so that the archive, too, shows only ksm_*.
$(BUILD)/libksm.a: $(call objs,$(CLIENT_SRC))
	@mkdir -p $(@D); echo '  AR    $@'; rm -f $@
	@$(LD) -r -o $(O)/libksm.o $^
	@$(OBJCOPY) --localize-hidden $(O)/libksm.o
	@$(AR) rcs $@ $(O)/libksm.o

$(BUILD)/libksm-preload.so: $(call objs,$(CLIENT_SRC) $(PRELOAD_SRC)) src/preload/preload.map
	$(call link,-shared -Wl$(comma)-soname$(comma)libksm-preload.so \
		-Wl$(comma)--version-script=src/preload/preload.map -Wl$(comma)-z$(comma)nodelete \
		-Wl$(comma)-z$(comma)defs -Wl$(comma)-z$(comma)now)

# ---- tests ---------------------------------------------------------------------------------

# What is under test allocates by functions that fail when a test wants it: tests/unit/alloc.c.
CORE_UNIT := $(O)/libcore-unit.a
UNIT_SYMS := $(foreach f,malloc calloc realloc,--redefine-sym $f=alloc_$f)
$(CORE_UNIT): $(CORE)
	@echo '  SYMS  $@'; $(OBJCOPY) $(UNIT_SYMS) $< $@

$(BUILD)/tests/unit: $(call objs,$(UNIT_SRC) $(TESTLIB_SRC)) $(CORE_UNIT) $(CLIENT_INT)
	$(call link,$(LIBS_unit) $(TEST_LIBS))

$(BUILD)/tests/functional/%: $(O)/tests/functional/%.o $(call objs,$(TESTLIB_SRC)) \
		$(CORE) $(CLIENT_INT)
	$(call link,$(LIBS_$*) $(TEST_LIBS))

$(patsubst %.py,$(BUILD)/%,$(FUNC_PY)): $(BUILD)/%: %.py Makefile
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec python3 -B %s "$$@"\n' '$(CURDIR)/$<' >$@ && chmod +x $@

$(BUILD)/tests/torture/torture: $(call objs,$(TORTURE_SRC) $(TESTLIB_SRC)) $(CLIENT_INT)
	$(call link,)

$(BUILD)/tests/torture/actor-%: $(call objs,$(ACTOR_SRC)) $(O)/tests/torture/calls_%.o \
		$(BUILD)/libksm.a
	$(call link,)

$(BUILD)/tests/numa-vm/init $(BUILD)/tests/numa-vm/beat: $(BUILD)/%: $(O)/%.o
	$(call link,)

# What runs in its virtual machine.
$(BUILD)/tests/functional/test_criu: $(addprefix $(BUILD)/tests/numa-vm/,init beat)
$(BUILD)/tests/functional/test_kernel_selftests: $(BUILD)/tests/numa-vm/init

$(BUILD)/tests/numa-vm/guest: $(call objs,$(VM_SRC) $(TESTLIB_SRC)) $(CORE) $(CLIENT_INT)
	$(call link,$(TEST_LIBS))

## tests         build the tests, do not run them
tests: all $(UNIT_BIN) $(FUNC_BIN) $(TORTURE_BIN) $(ACTOR_BIN) $(HOUSE_BIN)

# One run of the test binaries of one build. RUN_SKIP: names to leave out; RUN_LABEL: for output.
RUN_SKIP  ?=
RUN_LABEL ?= plain
run-tests: tests
	@tests/run.sh --label $(RUN_LABEL) --build $(BUILD) \
		$(if $(RESULTS),--results $(RESULTS)) -- \
		$(foreach t,$(HOUSE_BIN) $(UNIT_BIN) $(FUNC_BIN) $(TORTURE_BIN),$(if \
			$(filter $(RUN_SKIP),$(notdir $(t))),,$(t)))

# Suites that control the daemon and read its counters, by the way of who knows the kernel's files.
VIEW_SUITES := semantics control ksm_behaviour act inside kinds unmerge
## view          those functional tests through ksmd-fs, mounted in the kernel's place
view: tests
	@KSM_TEST_VIEW=1 KSM_TEST_TIMEOUT=600 tests/run.sh --label view --build $(BUILD) \
		$(if $(RESULTS),--results $(RESULTS)) -- \
		$(addprefix $(BUILD)/tests/functional/test_,$(VIEW_SUITES))

# ---- fuzzers -------------------------------------------------------------------------------

FUZZ_FLAGS := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
FUZZ_BIN   := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/%,$(FUZZ_SRC))

# What only checks and plays the kernel is no code to explore.
$(patsubst %.c,$(O)/%.o,$(FUZZLIB_SRC) tests/unit/fake.c src/engine/check.c): \
	private SANITIZE := $(subst fuzzer-no-link$(comma),,$(SANITIZE))

# The daemon's objects on a kernel in memory: tests/fuzz/os.h.
CORE_OS := $(O)/libcore-os.a
$(CORE_OS): $(CORE) tests/fuzz/os.syms
	@echo '  SYMS  $@'; $(OBJCOPY) --redefine-syms=tests/fuzz/os.syms $< $@

# Only with clang, in a build directory of its own: see fuzz-build.
$(BUILD)/tests/fuzz_%: $(O)/tests/fuzz/fuzz_%.o $(addprefix $(O)/tests/fuzz/,actor.o os.o world.o) \
		$(CORE_OS)
	$(call link,-fsanitize=fuzzer $(DAEMON_LIBS))

# The engine alone, driven by the unit tests' model.
$(BUILD)/tests/fuzz_engine: $(O)/tests/fuzz/fuzz_engine.o $(O)/tests/fuzz/os.o \
		$(O)/tests/unit/model.o $(O)/tests/unit/fake.o $(CORE_OS)
	$(call link,-fsanitize=fuzzer $(DAEMON_LIBS))

# The operator's file of named domains.
$(BUILD)/tests/fuzz_labels: $(addprefix $(O)/tests/fuzz/,fuzz_labels.o os.o) $(CORE_OS)
	$(call link,-fsanitize=fuzzer $(DAEMON_LIBS))

# The client's agent on a kernel of its own.
$(BUILD)/tests/fuzz_agent: $(O)/tests/fuzz/fuzz_agent.o $(CLIENT_INT)
	$(call link,-fsanitize=fuzzer)

# The same worlds without a fuzzer: a full life in which each call fails once.
SWEEPS := $(addprefix $(BUILD)/tests/sweep_,daemon agent)
$(BUILD)/tests/sweep_daemon: $(addprefix $(O)/tests/fuzz/,sweep_daemon.o fuzz_session.o actor.o \
		os.o world.o) $(CORE_OS)
	$(call link,$(DAEMON_LIBS))
$(BUILD)/tests/sweep_agent: $(addprefix $(O)/tests/fuzz/,sweep_agent.o fuzz_agent.o) $(CLIENT_INT)
	$(call link,)

fuzzers: $(FUZZ_BIN) $(SWEEPS) $(BUILD)/tests/fuzzers

# All of them, for tests/run.sh.
$(BUILD)/tests/fuzzers: Makefile
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec %s/tests/fuzz/run.sh "$$KSM_BUILD" "$${FUZZ_TIME:-30}"\n' \
		'$(CURDIR)' >$@ && chmod +x $@

fuzz-build:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=clang SANITIZE='$(FUZZ_FLAGS)' \
		WARNINGS='$(WARNINGS) $(GUARDS)' \
		CPPFLAGS='-DKSM_SYSC_TEST $(CPPFLAGS)' fuzzers

## faults        every allocation and system call fails once; kills and stops at each step
faults: setup-fuzz
	@$(MAKE) --no-print-directory fuzz-build
	@tests/run.sh --label faults --build $(BUILD)/fuzz -- \
		$(patsubst $(BUILD)/%,$(BUILD)/fuzz/%,$(SWEEPS))
	@$(MAKE) --no-print-directory tests
	@KSM_TEST_EVERY_STEP=1 KSM_TEST_TIMEOUT=1500 \
		tests/run.sh --label faults --build $(BUILD) -- \
		$(BUILD)/tests/functional/test_faults $(BUILD)/tests/functional/test_call_faults

## fuzz          fuzzers, two at a time: TIME=seconds each [30], FUZZ=names
fuzz: setup-fuzz
	@$(MAKE) --no-print-directory fuzz-build
	@tests/fuzz/run.sh $(BUILD)/fuzz $(or $(TIME),30) $(FUZZ)

# ---- model and memcheck, each as a test binary for tests/run.sh ----------------------------

$(BUILD)/tests/model: Makefile
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec %s/tests/model/run.sh "$$KSM_BUILD/model"\n' '$(CURDIR)' >$@ && \
		chmod +x $@

## vm            several NUMA nodes, in virtual machines
vm: setup-test $(BUILD)/tests/vm
	@KSM_TEST_TIMEOUT=900 tests/run.sh --label vm --build $(BUILD) -- $(BUILD)/tests/vm

## model         check the model of grace periods with spin
model: setup-model $(BUILD)/tests/model
	@KSM_TEST_TIMEOUT=900 tests/run.sh --label model --build $(BUILD) -- $(BUILD)/tests/model

# The order of the house, read from the sources and from the objects' symbols.
$(BUILD)/tests/house: Makefile
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec python3 -B %s/tests/house/check.py --build "$$KSM_BUILD"\n' \
		'$(CURDIR)' >$@ && chmod +x $@

# The tests that need several NUMA nodes, in virtual machines that have them.
$(BUILD)/tests/vm: Makefile $(VM_BIN) $(BUILD)/ksmd-user $(BUILD)/ksm-run \
		$(BUILD)/libksm-preload.so $(TORTURE_BIN) $(ACTOR_BIN)
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec %s/tests/numa-vm/run.sh "$$KSM_BUILD"\n' '$(CURDIR)' >$@ && \
		chmod +x $@

# The unit tests under memcheck.
$(BUILD)/tests/valgrind: Makefile $(UNIT_BIN)
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec %s/tests/valgrind.sh "$$KSM_BUILD/tests/unit"\n' \
		'$(CURDIR)' >$@ && chmod +x $@

# Unmodified programs of Debian's archive, while the daemon is killed. Those that cannot be had are
# skipped.
PROGRAMS_TIMEOUT = 600
$(BUILD)/tests/programs: Makefile
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec python3 -B %s/tests/programs/test_programs.py "$$@"\n' \
		'$(CURDIR)' >$@ && chmod +x $@

## programs      databases, servers, languages, guests, tools: as they are, while daemons die
programs: setup-programs
	@$(MAKE) --no-print-directory all $(BUILD)/tests/programs
	@KSM_TEST_TIMEOUT=$(PROGRAMS_TIMEOUT) tests/run.sh --label programs --build $(BUILD) \
		-- $(BUILD)/tests/programs

# ---- all of them ---------------------------------------------------------------------------

# Which system calls a serving daemon makes, and whether its filter allows them.
$(BUILD)/tests/confine: Makefile
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec /usr/bin/python3 -B %s/tests/confine.py "$$KSM_BUILD"\n' \
		'$(CURDIR)' >$@ && chmod +x $@

# Long tests with a label, of $(BUILD)$2. Two such runs at once: one beside the other, which ends it
# when it is interrupted.
run_long = KSM_TEST_TIMEOUT=900 tests/run.sh --label $1 --build $(BUILD)$2 \
	--results $(BUILD)/results -- $(addprefix $(BUILD)/,$3)
beside = trap 'kill "$$beside"' INT TERM; $1 & beside=$$!; $2; wait

## test          install what is missing, build, run all tests, also under the sanitizers
test: setup-test
	@rm -f $(BUILD)/results; mkdir -p $(BUILD)
	@$(MAKE) --no-print-directory tests
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan SANITIZE='$(ASAN_FLAGS)' tests
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE='$(TSAN_FLAGS)' $(TSAN_OWN) all
	@$(MAKE) --no-print-directory fuzz-build
	@$(MAKE) --no-print-directory -k run-tests RESULTS=$(BUILD)/results
	-@$(MAKE) --no-print-directory view RESULTS=$(BUILD)/results
	@$(MAKE) --no-print-directory -k run-tests BUILD=$(BUILD)/asan SANITIZE='$(ASAN_FLAGS)' \
		RUN_LABEL=asan RUN_SKIP='$(ASAN_SKIP)' RESULTS=$(BUILD)/results
	-@tests/run.sh --label asan --build $(BUILD)/asan --results $(BUILD)/results -- \
		$(TORTURE_BIN)
	-@TORTURE_JOBS=1 \
		tests/run.sh --label tsan --build $(BUILD)/tsan --results $(BUILD)/results -- \
		$(TSAN_OWN) $(addprefix $(BUILD)/tests/functional/,$(TSAN_DAEMON)) $(TORTURE_BIN)
	-@tests/run.sh --label fuzz --build $(BUILD)/fuzz --results $(BUILD)/results -- \
		$(BUILD)/fuzz/tests/fuzzers \
		$(patsubst $(BUILD)/%,$(BUILD)/fuzz/%,$(SWEEPS))
	@$(MAKE) --no-print-directory $(addprefix $(BUILD)/tests/,model valgrind confine vm)
	-@$(call beside,$(call run_long,asan,/asan,asan/tests/unit), \
		$(call run_long,plain,,tests/vm))
	-@$(call beside,$(call run_long,plain,,tests/model tests/valgrind), \
		$(call run_long,plain,,tests/confine))
	@tools/setup.sh programs
	@$(MAKE) --no-print-directory $(BUILD)/tests/programs
	-@KSM_TEST_TIMEOUT=$(PROGRAMS_TIMEOUT) \
		tests/run.sh --label programs --build $(BUILD) --results $(BUILD)/results -- \
		$(BUILD)/tests/programs
	@tests/run.sh --total $(BUILD)/results

## check         the fast tests of the plain build, under two minutes
check:
	@rm -f $(BUILD)/results; mkdir -p $(BUILD)
	@$(MAKE) --no-print-directory run-tests RUN_SKIP='$(CHECK_SKIP)' RESULTS=$(BUILD)/results
	@tests/run.sh --total $(BUILD)/results

## torture       TIME=seconds SEED=number JOBS=number: nothing is lost, whatever happens
TIME ?= 60
JOBS ?= 2
torture: all $(TORTURE_BIN) $(ACTOR_BIN)
	@KSM_BUILD=$(abspath $(BUILD)) $(BUILD)/tests/torture/torture --time $(TIME) \
		--jobs $(JOBS) $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep)

## asan tsan     build with the address + undefined, or the thread sanitizer
asan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan SANITIZE='$(ASAN_FLAGS)' tests
tsan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE='$(TSAN_FLAGS)' tests

## clang         build everything with clang, which verifies who holds which lock
clang:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/clang CC=clang \
		WARNINGS='$(WARNINGS) $(GUARDS)' tests

## house         what is in no order: circles, floors, lengths, widths, names (tests/house)
house: tests
	@tests/house/check.py --build $(BUILD) $(HOUSE_ARGS)

## format-check  say which files are not in the project's format
format-check:
	@clang-format --dry-run --Werror $(ALL_SRC) \
		$(wildcard include/*.h numa/*.h src/*/*.h tests/*/*.h tools/*.h tools/*/*.h)

## tidy          clang-tidy over all sources
tidy:
	@clang-tidy --quiet $(ALL_SRC) -- -std=gnu11 -DKSM_SYSC_TEST -Itests $(CPPFLAGS_ALL)

# ---- running -------------------------------------------------------------------------------

setup-build setup-run setup-test setup-fuzz setup-model setup-deb setup-programs \
		setup-bench: \
		setup-%:
	@tools/setup.sh $*

## run           demonstration: merge the memory of unmodified programs, and check their data
run: setup-run
	@$(MAKE) --no-print-directory all
	@/usr/bin/python3 -B tools/demo/demo.py --build $(BUILD)

## bench         compare with the kernel's KSM (root, under 15 minutes); BENCH_ARGS: its options
bench: setup-run
	@$(MAKE) --no-print-directory all
	@$(BUILD)/ksm-bench kernel $(or $(BENCH_ARGS),--workload all --rounds 3) --json \
		>$(BUILD)/bench.json; status=$$?; \
	if test -s $(BUILD)/bench.json; then \
		$(BUILD)/ksm-bench report $(BUILD)/bench.json --summary --svg $(BUILD)/bench.svg; \
		echo "All figures: $(BUILD)/ksm-bench report $(BUILD)/bench.json"; \
	fi; exit $$status

## bench-programs  servers' throughput and latency, merged and native (root, about 10 minutes)
bench-programs: setup-bench
	@$(MAKE) --no-print-directory all
	@$(BUILD)/ksm-bench programs $(BENCH_ARGS)

## bench-numa-vm  merge_policy on real nodes, in a virtual machine (15 minutes); LAYOUT: vm.py's
LAYOUT = 2x512,2x512
bench-numa-vm: setup-test
	@$(MAKE) --no-print-directory all $(BUILD)/tests/numa-vm/init
	@tests/numa-vm/bench.sh $(BUILD) $(LAYOUT) $(or $(BENCH_ARGS),--size 1)

## bench-docs    tables and plot of docs/performance.md anew, from the last bench if there was one
bench-docs: setup-run
	@$(MAKE) --no-print-directory all
	@test ! -s $(BUILD)/bench.json || cp $(BUILD)/bench.json docs/performance.json
	@$(BUILD)/ksm-bench report docs/performance.json --svg docs/performance.svg \
		--update docs/performance.md

# ---- installing ----------------------------------------------------------------------------

define PC_FILE
prefix=$(PREFIX)
libdir=$(libdir)
includedir=$(includedir)

Name: libksm
Description: Offer anonymous memory to ksmd-user for page deduplication
Version: $(VERSION)
Libs: -L$${libdir} -lksm
Libs.private: -pthread
Cflags: -I$${includedir}
endef
export PC_FILE

## install       into $(DESTDIR)$(PREFIX)
install: all
	install -d $(addprefix $(DESTDIR),$(bindir) $(includedir) $(pcdir) $(preloaddir) \
		$(benchdir))
	install -m 755 $(PROGRAMS) $(DESTDIR)$(bindir)
	install -m 644 include/ksm.h $(DESTDIR)$(includedir)
	install -m 644 $(BUILD)/libksm.a $(DESTDIR)$(libdir)
	install -m 755 $(BUILD)/libksm.so $(DESTDIR)$(libdir)/libksm.so.$(VERSION)
	ln -sf libksm.so.$(VERSION) $(DESTDIR)$(libdir)/libksm.so.$(SOVERSION)
	ln -sf libksm.so.$(SOVERSION) $(DESTDIR)$(libdir)/libksm.so
	install -m 755 $(BUILD)/libksm-preload.so $(DESTDIR)$(preloaddir)
	install -m 644 $(BENCH_PY) $(DESTDIR)$(benchdir)
	printf '%s\n' "$$PC_FILE" >$(DESTDIR)$(pcdir)/libksm.pc
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/ksmd-user/packaging $(PACKAGING)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/ksmd-user \
		tools/packaging/ksm-run.conf tools/grafana/grafana.json
	install -D -m 644 -t $(DESTDIR)$(bashdir) tools/completion/ksmdctl.bash
	install -D -m 644 -t $(DESTDIR)$(zshdir) tools/completion/_ksmdctl
	install -D -m 644 -t $(DESTDIR)$(fishdir) tools/completion/ksmdctl.fish
	mv $(DESTDIR)$(bashdir)/ksmdctl.bash $(DESTDIR)$(bashdir)/ksmdctl
	$(foreach p,$(filter-out ksmdctl,$(notdir $(PROGRAMS))), \
		ln -sf ksmdctl $(DESTDIR)$(bashdir)/$(p) && \
		ln -sf ksmdctl.fish $(DESTDIR)$(fishdir)/$(p).fish &&) true
	$(foreach m,$(MAN_SRC),install -D -m 644 $(m) \
		$(DESTDIR)$(mandir)/man$(patsubst .%,%,$(suffix $(m)))/$(notdir $(m)) &&) true

## uninstall     remove what install puts into $(DESTDIR)$(PREFIX)
uninstall:
	@all=$$(mktemp -d) && trap 'rm -rf "$$all"' EXIT && \
	$(MAKE) --no-print-directory install DESTDIR="$$all" >/dev/null && cd "$$all" && \
	find . ! -type d -printf '%P\0' | (cd $(or $(DESTDIR),/) && xargs -0 rm -f) && \
	find . -depth -type d -path '*/ks*' -printf '%P\0' | \
		(cd $(or $(DESTDIR),/) && xargs -0 rmdir --ignore-fail-on-non-empty)

## deb           Debian packages of the last commit, into build/deb
deb: setup-deb
	@tools/packaging/deb.sh $(BUILD)/deb

## clean         remove build/
clean:
	rm -rf $(BUILD)

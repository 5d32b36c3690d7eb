/* SPDX-License-Identifier: MIT */
/*
 * occasion.c - see occasion.h.
 *
 * One thread more than a program knows of is a burden, and for nothing where there is no daemon, or
 * no memory that is worth it. A daemon that comes later tells nobody, so the program looks again on
 * occasions. Under an allocator's mmap(2) no thread can be made, since that takes memory from the
 * allocator. Good occasions are the calls of malloc where that is the C library's, as it holds no
 * lock when it is entered, and mmap(2) there, unless it comes from a signal handler: that may have
 * interrupted malloc. Elsewhere the occasion is that the program makes a thread or a child.
 *
 * Programs with an allocator of their own wait for such an occasion in any case. Some of them look
 * whether they have one thread only, before they make themselves a sandbox (the zygote of
 * Chromium), and those that use much memory have threads.
 */
#include "preload/occasion.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "client/client.h"
#include "preload/preload.h"

/* Less is not worth it. malloc takes more than the first at once, whatever it is for: HEAP_STEP. */
#define WORTH_HEAP ((uintptr_t)2 << 20)
#define WORTH_MAPPED ((size_t)512 << 10)

#define LAST_MS 100 /* an agent connects within a few */

/* The C library's idea of the break. */
extern char *__curbrk;

_Atomic bool occasion_awaited;
static bool wanted, in_malloc; /* set in the constructor */
static uintptr_t heap_start;
static _Atomic bool heard; /* a call of malloc, by occasion_hears() */
static _Atomic size_t mapped;
static _Atomic long next_s;

void occasion_begin(bool malloc_seen)
{
	wanted = true;
	in_malloc = malloc_seen;
	heap_start = __curbrk ? (uintptr_t)__curbrk : (uintptr_t)sysc1(SYS_brk, 0);
	ksmc_mind_first_thread();
	atomic_store(&occasion_awaited, malloc_seen);
}

void occasion_map(size_t len)
{
	atomic_fetch_add_explicit(&mapped, len, memory_order_relaxed);
}

/* A handler has its own signal blocked, or a stack of its own. The answer may be a wrong "yes". */
static bool in_handler(void)
{
	uint64_t blocked = 0;
	stack_t stack = { 0 };

	return sysc4(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &blocked, sizeof(blocked)) || blocked ||
	       sysc2(SYS_sigaltstack, NULL, &stack) || (stack.ss_flags & SS_ONSTACK);
}

static bool worth_it(void)
{
	return atomic_load_explicit(&mapped, memory_order_relaxed) >= WORTH_MAPPED ||
	       (uintptr_t)__curbrk >= heap_start + WORTH_HEAP;
}

/* Is it time to try? Then no other thread tries within the next second. */
static bool is_time(void)
{
	long seen = atomic_load_explicit(&next_s, memory_order_relaxed);
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* no system call */
	return now.tv_sec >= seen && atomic_compare_exchange_strong(&next_s, &seen, now.tv_sec + 1);
}

/* Try to. */
static void start(void)
{
	/* While it is being made it takes memory, too. */
	atomic_store(&occasion_awaited, false);
	ksmc_start_agent();
	if (!ksmc_has_agent())
		atomic_store(&occasion_awaited, in_malloc);
}

void occasion(void)
{
	if (!wanted || !preload_active() || !worth_it())
		return;
	if (ksmc_has_agent()) {
		atomic_store(&occasion_awaited, false);
		return;
	}
	if (!is_time())
		return;
	start();
}

void occasion_last(void)
{
	struct ksm_stat st = { .size = sizeof(st) };

	if (!wanted || !preload_active() || ksmc_has_agent() || sysc0(SYS_geteuid))
		return;
	start();
	for (int i = 0; i < LAST_MS && ksmc_has_agent() && !st.connected; i++) {
		const struct timespec nap = { 0, 1000000 };

		sysc2(SYS_nanosleep, &nap, NULL);
		ksmc_stat(&st);
	}
}

void occasion_in_child(void)
{
	if (!preload_active())
		return;
	if (wanted)
		ksmc_mind_first_thread();
	atomic_store(&next_s, 0);
	atomic_store(&occasion_awaited, wanted && in_malloc);
	if (!wanted || ksmc_had_agent())
		ksmc_start_agent();
	else
		occasion();
}

bool occasion_hears(void *(*allocate)(size_t))
{
	heard = false;
	atomic_store(&occasion_awaited, true);
	free(allocate(1));
	atomic_store(&occasion_awaited, false);
	return heard;
}

void occasion_in_malloc_slow(void)
{
	int keep = errno;

	heard = true;
	if (worth_it())
		occasion();
	errno = keep;
}

void occasion_in_mmap_slow(void)
{
	int keep = errno;

	if (worth_it() && !in_handler())
		occasion();
	errno = keep;
}

/* SPDX-License-Identifier: MIT */
/*
 * start.c - the constructor, in which no lock is held: malloc, the main heap, the agent.
 *
 * The C library's malloc asks for memory from within, where no interposer sees it. So the start has
 * it take all of its memory from the main heap, which it then never gives back to the kernel. The
 * agent notices growth by asking for the break now and then, and nothing else happens to a heap.
 * One arena, no mappings, no trimming; malloc_trim() does nothing and says so (returns 0).
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "client/client.h"
#include "preload/exec.h"
#include "preload/process.h"
#include "preload/settings.h"
#include "preload/thread.h"
#include "preload/view.h"
#include "wire/kernel_abi.h"

/* The heap grows by at least so much at a time: the agent learns of it in a few large steps. */
#define HEAP_STEP (1 << 20)

/* ---- malloc ---- */

typedef int (*mallopt_fn)(int, int);
typedef int (*malloc_trim_fn)(size_t);

static void *next_mallopt, *next_malloc_trim;

static bool heap_is_ours(void)
{
	return preload_active() && !preload.native_malloc;
}

/* What the start has chosen stays; a wish for something else is accepted as if it were done. */
EXPORT int mallopt(int param, int value)
{
	if (heap_is_ours() && (param == M_TRIM_THRESHOLD || param == M_MMAP_MAX ||
			       param == M_MMAP_THRESHOLD || param == M_ARENA_MAX))
		return 1;
	return ((mallopt_fn)preload_next(&next_mallopt, "mallopt"))(param, value);
}

EXPORT int malloc_trim(size_t pad)
{
	if (heap_is_ours())
		return 0;
	return ((malloc_trim_fn)preload_next(&next_malloc_trim, "malloc_trim"))(pad);
}

static void keep_malloc_in_heap(void)
{
	mallopt_fn set = (mallopt_fn)preload_next(&next_mallopt, "mallopt");

	set(M_MMAP_MAX, 0);
	set(M_ARENA_MAX, 1);
	set(M_TRIM_THRESHOLD, -1);
	set(M_TOP_PAD, HEAP_STEP);
}

/* ---- start-up ---- */

static void find_path(void)
{
	Dl_info info;

	if (dladdr(&preload, &info) && info.dli_fname && info.dli_fname[0] == '/' &&
	    strlen(info.dli_fname) < sizeof(preload.path))
		strcpy(preload.path, info.dli_fname);
}

/*
 * A service manager may have set PR_SET_MEMORY_MERGE before it started the program (MemoryKSM= of
 * systemd): then the kernel merges all of it. Both at once would work against each other.
 */
static void take_over_from_kernel(void)
{
	if (sysc5(SYS_prctl, PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1 && proc_merge_any(true) == 0)
		sysc5(SYS_prctl, PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
}

__attribute__((constructor)) static void preload_start(void)
{
	const char *any = initial_env(KSM_RUN_MERGE_ANY);

	preload_setup();
	find_path();
	process_resolve();
	exec_resolve();
	thread_resolve();
	view_resolve();
	if (!preload_active())
		return;
	if (!preload.native_malloc)
		keep_malloc_in_heap();
	if (any && strcmp(any, "1") == 0)
		proc_merge_any(true);
	take_over_from_kernel();
	if (preload.mode != PRELOAD_AUTO)
		return;
	if (!preload.native_malloc)
		ksmc_heap_offer();
	ksmc_start_agent();
}

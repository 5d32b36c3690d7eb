// SPDX-License-Identifier: MIT
/* start.c - the constructor, in which no lock is held: malloc, the main heap, the agent. See preload.c. */
#include "preload/preload.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "preload/settings.h"

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

/* What start-up has settled stays settled; it is accepted as if it were done. */
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

static void settle_malloc(void)
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

__attribute__((constructor)) static void preload_start(void)
{
	const char *any = initial_env(KSM_RUN_MERGE_ANY);

	preload_setup();
	find_path();
	process_resolve();
	exec_resolve();
	if (!preload_active())
		return;
	if (!preload.native_malloc)
		settle_malloc();
	if (any && strcmp(any, "1") == 0)
		proc_prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
	if (preload.mode != PRELOAD_AUTO)
		return;
	if (!preload.native_malloc)
		ksmc_heap_watch();
	ksmc_start_agent();
}

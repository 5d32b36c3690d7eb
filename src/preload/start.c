/* SPDX-License-Identifier: MIT */
/*
 * start.c - the constructor, in which no lock is held: malloc, the main heap, the agent.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "client/client.h"
#include "preload/exec.h"
#include "preload/large.h"
#include "preload/malloc.h"
#include "preload/occasion.h"
#include "preload/process.h"
#include "preload/settings.h"
#include "preload/thread.h"
#include "preload/view.h"
#include "wire/kernel_abi.h"

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
	malloc_resolve();
	if (!preload_active())
		return;
	if (!preload.heap_when_asked)
		malloc_keep_in_heap();
	if (any && strcmp(any, "1") == 0)
		proc_merge_any(true);
	take_over_from_kernel();
	if (preload.mode != PRELOAD_AUTO)
		return;
	malloc_offer_heap();
	occasion_begin(large_malloc_is_libc());
}

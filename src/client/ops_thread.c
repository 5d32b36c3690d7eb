/* SPDX-License-Identifier: MIT */
/* ops_thread.c - threads of the program begin and end. */
#include "client/as.h"
#include "client/agent.h"
#include "client/client.h"
#include "client/leaving.h"
#include "client/ops.h"
#include "client/sysc.h"

/* So often a thread that finds no room tries again. Others end meanwhile, or hang. */
#define ADD_TRIES 1000

void ksmc_thread_begins(void)
{
	struct as_guard g;

	if (!atomic_load_explicit(&as.nr_leaving, memory_order_relaxed))
		return;
	ops_enter(&g);
	leaving_drop_self();
	ops_leave(&g, false);
}

void ksmc_thread_ends(void)
{
	bool added = false;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return;
	for (int i = 0; i < ADD_TRIES && !added; i++) {
		struct as_guard g;

		ops_enter(&g);
		added = leaving_add();
		ops_leave(&g, false);
		if (!added)
			sysc0(SYS_sched_yield);
	}
}

bool ksmc_is_agent(uintptr_t thread)
{
	return agent_is_main(thread);
}

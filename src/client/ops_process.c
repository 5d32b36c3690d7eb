/* SPDX-License-Identifier: MIT */
/* ops_process.c - first use, forks. */
#include "client/ops_process.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "client/agent.h"
#include "client/as_life.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/ops.h"
#include "client/sysc.h"

static struct as_guard fork_guard; /* of the thread that forks; under the lock */

void ksmc_fork_prepare(void) UNCHECKED_LOCKING
{
	struct as_guard g;

	ops_enter(&g);
	fork_guard = g;
}

void ksmc_fork_parent(void) UNCHECKED_LOCKING
{
	struct as_guard g = fork_guard;

	as_leave(&g);
}

/* The child of an interposed raw clone: its C library does not know, so no agent. */
void ksmc_fork_child(void)
{
	struct as_guard g = fork_guard;

	ops_start_over(true);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &g.sigmask, NULL, sizeof(g.sigmask));
}

void ksmc_vfork_prepare(struct ksmc_vfork *v) UNCHECKED_LOCKING
{
	struct as_guard g;

	ops_enter(&g);
	v->sigmask = g.sigmask;
	v->slot = as_vfork_begin();
}

void ksmc_vfork_parent(const struct ksmc_vfork *v) UNCHECKED_LOCKING
{
	as_vfork_end(v->slot);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &v->sigmask, NULL, sizeof(v->sigmask));
}

void ksmc_vfork_child(const struct ksmc_vfork *v)
{
	as_vfork_copied(v->slot);
	ops_start_over(true);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &v->sigmask, NULL, sizeof(v->sigmask));
}

static void start_agent_if_wanted(bool told)
{
	struct as_guard g;
	bool want = agent_watches_heap();

	as_enter(&g);
	want |= as.offer_min_pages || as.merge_any; /* what comes will be offered */
	for (size_t i = 0; i < as.nr && !want; i++)
		want = as.range[i].flags & AS_WANTED;
	as_leave(&g);
	if (want)
		agent_start(told);
}

void ksmc_defer_agent(void)
{
	agent_defer();
}

void ksmc_set_runtime_dir(const char *dir)
{
	agent_find_daemon(dir);
}

void ksmc_start_agent(void)
{
	start_agent_if_wanted(true);
}

static void after_fork_in_child(void)
{
	struct as_guard g = fork_guard;

	ops_start_over(false);
	start_agent_if_wanted(false);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &g.sigmask, NULL, sizeof(g.sigmask));
}

int ksmc_init(void)
{
	static _Atomic int state; /* 0 new, 1 being made, 2 made */
	int zero = 0, r;

	if (atomic_load_explicit(&state, memory_order_acquire) == 2)
		return 0;
	if (!atomic_compare_exchange_strong(&state, &zero, 1)) {
		while (atomic_load_explicit(&state, memory_order_acquire) == 1)
			sysc0(SYS_sched_yield);
		return atomic_load(&state) == 2 ? 0 : -ENOMEM;
	}
	r = as_init();
	if (!r && pthread_atfork(ksmc_fork_prepare, ksmc_fork_parent, after_fork_in_child))
		r = -ENOMEM;
	atomic_store_explicit(&state, r ? 0 : 2, memory_order_release);
	return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * ops_process.c - the first use of the library, forks, and the start of the agent.
 *
 * A fork copies the tables, so the thread that forks holds their lock: the child finds them whole.
 * fork(3) runs the handlers that ksmc_init() registers. A raw clone(2) that the preloaded object
 * sees calls the same steps by name, and its child has no agent, because the C library there does
 * not know of the fork. A raw clone that nobody sees is found by its cookie (as.h, e).
 */
#include "client/ops_process.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "client/agent.h"
#include "client/as_domain.h"
#include "client/as_life.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/mailbox.h"
#include "client/ops.h"
#include "client/ops_withdraw.h"
#include "client/sysc.h"

/* For ksm-run, which looks for code whose calls it does not see: unseen.c. */
__attribute__((used)) static const char mark[] = KSM_MARK;

/* The signal mask of the thread that forks, which holds the lock from prepare to parent. */
static struct as_guard fork_guard;
static bool fork_holds; /* ... unless there is nothing more to mind; the lock covers a true one */

/* Each takes at most 0.2 s: mailbox_hasten(). */
#define CONNECT_TRIES 10

void ksmc_fork_prepare(void) UNCHECKED_LOCKING
{
	struct as_guard g;

	if (atomic_load(&as.given_up))
		return;
	ops_enter(&g);
	fork_guard = g;
	fork_holds = true;
}

/* The lock is to be given back, or is new in the child. */
static bool fork_held(void)
{
	bool held = fork_holds;

	fork_holds = false;
	return held;
}

/*
 * The daemon is to know how often this process is copied, since each copy pays for the mappings
 * that merging added. The agent is woken by the first, and tells of all that follow in a second.
 */
static void count_fork(void)
{
	if (!atomic_fetch_add(&as.nr_forks, 1))
		mailbox_poke();
}

void ksmc_fork_parent(void) UNCHECKED_LOCKING
{
	struct as_guard g = fork_guard;

	if (!fork_held())
		return;
	count_fork();
	as_leave(&g);
}

/* The C library does not know of an interposed raw clone, so its child has no agent. */
void ksmc_fork_child(void)
{
	struct as_guard g = fork_guard;

	if (!fork_held())
		return;
	ops_start_over(true);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &g.sigmask, NULL, sizeof(g.sigmask));
}

void ksmc_vfork_prepare(struct ksmc_vfork *v) UNCHECKED_LOCKING
{
	struct as_guard g;

	ops_enter(&g);
	v->sigmask = g.sigmask;
	v->ticket = as_vfork_begin();
}

void ksmc_vfork_parent(const struct ksmc_vfork *v) UNCHECKED_LOCKING
{
	as_vfork_end(v->ticket);
	count_fork();
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &v->sigmask, NULL, sizeof(v->sigmask));
}

void ksmc_vfork_child(const struct ksmc_vfork *v)
{
	as_vfork_copied(v->ticket);
	ops_start_over(true);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &v->sigmask, NULL, sizeof(v->sigmask));
}

static void start_agent_if_wanted(bool told)
{
	struct as_guard g;
	bool want = agent_offers_heap();

	as_enter(&g);
	want |= as.offer_min_pages || as.merge_any; /* later mappings will be offered */
	for (const struct as_range *r = as_first(0); r && !want; r = as_next(r))
		want = r->flags & AS_WANTED;
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

void ksmc_mind_first_thread(void)
{
	agent_mind_first_thread();
}

void ksmc_connect_at_once(void)
{
	mailbox_hasten();
}

bool ksmc_step_aside(void)
{
	return agent_end();
}

void ksmc_step_back(bool ended)
{
	if (ended)
		start_agent_if_wanted(true);
}

bool ksmc_has_agent(void)
{
	return atomic_load(&mailbox.tid) || atomic_load(&mailbox.disabled);
}

bool ksmc_had_agent(void)
{
	return agent.heritage.pid;
}

/* Whether anything stands on frames is a hint at first, and read under the lock in the end. */
bool ksmc_give_up(void) UNCHECKED_LOCKING
{
	struct as_guard g;
	bool gone;

	if (!agent_is_here())
		return false;
	/* It may just have begun again, and gives frames back only once it is connected. */
	for (int i = 0; i < CONNECT_TRIES && as.nr_frame_pages && !mailbox_connected(); i++) {
		agent_start(true);
		atomic_store(&mailbox.first_try, TRY_LATER);
		mailbox_hasten();
		if (atomic_load(&mailbox.first_try) == TRY_OVER)
			break; /* there is no daemon any more */
	}
	/* For this reason pages that were written leave the mappings of frames as well. */
	ops_withdraw(0, KSM_ADDR_END, KSM_LEFT_UFFD);
	agent_end();
	mailbox_disable();
	ops_enter(&g);
	gone = !as.nr_frame_pages;
	if (gone) {
		as_clear(0, KSM_ADDR_END);
		as.merge_any = false;
		as.offer_min_pages = 0;
		atomic_store(&as.active, false);
	}
	as_leave(&g);
	atomic_store(&as.given_up, gone);
	return gone;
}

static void after_fork_in_child(void)
{
	struct as_guard g = fork_guard;

	if (!fork_held())
		return;
	ops_start_over(false);
	start_agent_if_wanted(false);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &g.sigmask, NULL, sizeof(g.sigmask));
}

/* Nobody else knows the library yet. */
void ksmc_set_domain(const char *domain) UNCHECKED_LOCKING
{
	as_domain_put(domain);
}

/* What ksmc_set_domain() has said comes first. The caller is alone. */
static void ask_environment(void)
{
	if (!as.domain_known)
		ksmc_set_domain(secure_getenv(KSM_DOMAIN_VAR));
}

int ksmc_init(void)
{
	enum { NEW, BEING_MADE, MADE };
	static _Atomic int state = NEW;
	int seen = NEW, r;

	if (atomic_load_explicit(&state, memory_order_acquire) == MADE)
		return 0;
	if (!atomic_compare_exchange_strong(&state, &seen, BEING_MADE)) {
		while (atomic_load_explicit(&state, memory_order_acquire) == BEING_MADE)
			sysc0(SYS_sched_yield);
		return atomic_load(&state) == MADE ? 0 : -ENOMEM;
	}
	ask_environment();
	r = as_init();
	if (!r && pthread_atfork(ksmc_fork_prepare, ksmc_fork_parent, after_fork_in_child))
		r = -ENOMEM;
	atomic_store_explicit(&state, r ? NEW : MADE, memory_order_release);
	return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * ops_policy.c - what is offered although nobody called madvise: PR_SET_MEMORY_MERGE, the policy
 * of ksm-run, and the main heap; and in which domain.
 *
 * A policy says what holds for later mappings; ops_map.c acts on it. Only PR_SET_MEMORY_MERGE also
 * changes what is mapped already.
 */
#include <errno.h>
#include <string.h>

#include "base/span.h"
#include "client/agent.h"
#include "client/as_domain.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/mailbox.h"
#include "client/ops.h"
#include "client/ops_learn.h"
#include "client/ops_process.h"
#include "client/ops_withdraw.h"
#include "client/sysc.h"

void ksmc_set_offer_policy(size_t min_pages)
{
	struct as_guard g;

	if (ksmc_init() < 0)
		return;
	ops_enter(&g);
	as.offer_min_pages = min_pages;
	as_leave(&g);
}

void ksmc_set_learn(enum ksmc_learn learn)
{
	struct as_guard g;

	if (ksmc_init() < 0)
		return;
	ops_enter(&g);
	_Static_assert(KSMC_LEARN_HEAP == (int)AS_LEARN_HEAP &&
			       KSMC_LEARN_NONE == (int)AS_LEARN_NONE,
		       "the same numbers");
	as.learn = (uint8_t)learn;
	as_leave(&g);
}

static void want_any(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED;
}

long ksmc_set_merge_any(bool enable)
{
	struct as_guard g;
	long r = 0;
	bool was;

	if (ksmc_init() < 0)
		return -ENOMEM;
	ops_enter(&g);
	was = as.merge_any;
	as.merge_any = enable;
	if (enable) {
		r = as_edit(0, KSM_ADDR_END, want_any, 0);
		as_event(KSM_MSG_ADD, 0, KSM_ADDR_END);
	}
	if (ops_leave(&g, enable) < 0)
		r = -ENOMEM;
	if (was && !enable)
		r = ops_withdraw(0, KSM_ADDR_END, -1);
	if (r) { /* the same call again must find something to do */
		ops_enter(&g);
		as.merge_any = was;
		as_leave(&g);
	}
	return r;
}

bool ksmc_get_merge_any(void)
{
	return atomic_load_explicit(&as.merge_any, memory_order_relaxed);
}

/*
 * The agent sees that the name has changed before it carries out another order, and leaves. It may
 * be about to carry one out. So it is asked to un-share everything, and does that after the order.
 */
long ksmc_join(const char *domain)
{
	struct as_guard g;
	uint64_t sigmask;
	bool changed, offered;
	long r = 0;

	if (domain && *domain && !ksm_label_valid(domain))
		return -EINVAL;
	if (ksmc_init() < 0)
		return -ENOMEM;
	if (as_is_orphan())
		ops_start_over(true);
	mailbox_begin(&sigmask);
	ops_enter(&g);
	changed = strcmp(as.domain, domain ? domain : "") != 0;
	if (changed)
		as_domain_put(domain);
	offered = as.nr > 0 || as.nr_frame_pages > 0;
	as_leave(&g);
	if (changed)
		mailbox_poke();
	if (changed && offered)
		r = agent_unshare(0, KSM_ADDR_END);
	mailbox_end(&sigmask);
	return r;
}

/* Without memory for the table the older part stays out; the agent offers what is added later. */
void ksmc_heap_offer(uint64_t from)
{
	struct learned l = { .span = { page_up(from), 0 }, .end = page_up(from) };
	struct as_guard g;

	if (ksmc_init() < 0)
		return;
	ops_enter(&g);
	if (!agent_offers_heap()) {
		l.span.end = u64_max(page_down((uint64_t)sysc1(SYS_brk, 0)), l.span.start);
		if (!span_empty(l.span)) {
			ops_learn(&l);
			as_edit(l.span.start, l.span.end, want_any, 0);
			as_event(KSM_MSG_ADD, l.span.start, l.span.end);
		}
		agent_offer_heap(l.span.end);
	}
	ops_leave(&g, true);
}

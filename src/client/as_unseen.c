/* SPDX-License-Identifier: MIT */
/*
 * as_unseen.c - see as_unseen.h.
 *
 * A program without a descriptor to spare, or without /proc, says something about memory that the
 * library does not know: that it is not to be dumped, or may be merged. The call succeeds all the
 * same, and what it says is kept in a range that is unseen, which is treated as shared memory: the
 * kernel alone does what is asked of it, and nothing of it is merged. That lasts until somebody can
 * ask the kernel what it is: a later call, or the agent, which has descriptors of its own.
 */
#include "client/as_unseen.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/as_ranges.h"

bool as_may_learn(const struct maps_entry *e)
{
	if (!maps_is_anon(e) || e->end > KSM_ADDR_END)
		return false;
	return as.learn == AS_LEARN_ALL ||
	       (as.learn == AS_LEARN_HEAP && !strcmp(e->name, "[heap]"));
}

bool as_has_seen(struct span s)
{
	if (!as_covers(s.start, s.end))
		return false;
	for (const struct as_range *r = as_first(s.start); r && r->start < s.end; r = as_next(r))
		if (r->flags & AS_UNSEEN)
			return false;
	return true;
}

int as_unseen_fill(struct span s)
{
	s.end = u64_min(s.end, KSM_ADDR_END);
	if (span_empty(s))
		return 0;
	atomic_store_explicit(&as.unseen, true, memory_order_relaxed);
	return as_fill(s.start, s.end, PROT_READ | PROT_WRITE, AS_UNSEEN, 1u << KSM_LEFT_SHARED);
}

static void see(struct as_range *r, long prot)
{
	if (!(r->flags & AS_UNSEEN))
		return;
	r->flags &= (uint16_t)~AS_UNSEEN;
	r->left_out &= (uint16_t) ~(1u << KSM_LEFT_SHARED);
	r->prot = (uint8_t)prot;
}

int as_unseen_see(struct span part, const struct maps_entry *e)
{
	if (!atomic_load_explicit(&as.unseen, memory_order_relaxed) || !as_may_learn(e))
		return 0;
	return as_edit(part.start, part.end, see, e->prot);
}

static void see_mapping(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	as_unseen_see(span_clip((struct span){ e->start, e->end }, *(struct span *)arg), e);
}

void as_unseen_ask(int maps_fd, struct span s)
{
	if (!atomic_load_explicit(&as.unseen, memory_order_relaxed))
		return;
	as_agent_lock();
	if (as_knows(s.start, s.end) && !as_has_seen(s))
		maps_walk_in(maps_fd, s.start, s.end, see_mapping, &s);
	as_unlock();
}

/* SPDX-License-Identifier: MIT */
/*
 * ops_learn.c - learn of memory that the program mapped by itself.
 *
 * The table knows what was mapped through the library. A program may offer other memory, too, and
 * the kernel says of it in /proc/self/maps what it is. The library's own tables lie among it and
 * are forgotten at the end.
 *
 * A program without /proc, or without a free descriptor, gets what it asked for all the same. What
 * cannot be looked at goes into the table as memory that is left out, and is never merged.
 */
#include "client/ops_learn.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "client/agent.h"
#include "client/as_life.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/maps.h"
#include "client/sysc.h"

static bool may_learn(const struct maps_entry *e) NEEDS(as.lock)
{
	return as.learn == KSMC_LEARN_ALL ||
	       (as.learn == KSMC_LEARN_HEAP && !strcmp(e->name, "[heap]"));
}

static void learn_mapping(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	struct learned *l = arg;
	struct span part = span_clip((struct span){ e->start, e->end }, l->span);

	l->gap |= part.start != l->end;
	l->end = part.end;
	if (maps_is_anon(e) && part.end <= KSM_ADDR_END && may_learn(e) &&
	    as_fill(part.start, part.end, e->prot, 0, 0) < 0)
		l->nomem = true;
	if (l->shared && e->shared && part.end <= KSM_ADDR_END &&
	    as_fill(part.start, part.end, e->prot, 0, 1u << KSM_LEFT_SHARED) < 0)
		l->nomem = true;
}

/*
 * Entries that learning adds at most. A gap in the table ends at a mapping's end or at a range of
 * the table; filling it adds two. The last of these edits asks for room of its own, too.
 */
static size_t most_learned(size_t nr_maps) NEEDS(as.lock)
{
	return 2 * (nr_maps + as.nr) + 8;
}

/* The kernel shows nothing of the span. Like shared memory, what is not known is the kernel's. */
static void learn_nothing(struct learned *l) NEEDS(as.lock)
{
	uint64_t end = u64_min(l->span.end, KSM_ADDR_END);

	if (as_fill(l->span.start, end, 0, 0, 1u << KSM_LEFT_SHARED) < 0)
		l->nomem = true;
	l->end = l->span.end;
	/* MS_ASYNC says whether there is a gap, does nothing else, and needs no descriptor. */
	l->gap = sysc3(SYS_msync, l->span.start, span_len(l->span), MS_ASYNC) == -ENOMEM;
}

void ops_learn(struct learned *l)
{
	bool known = as_covers(l->span.start, l->span.end);
	int nr = known ? 0 : maps_walk(0, 0, NULL, NULL);

	if (!known && as_reserve(most_learned(nr < 0 ? 0 : (size_t)nr)) < 0) {
		l->nomem = true;
		return;
	}
	if (nr < 0 || maps_walk(l->span.start, l->span.end, learn_mapping, l) < 0)
		learn_nothing(l);
	if (!known) {
		as_clear_own();
		agent_clear_own();
	}
}

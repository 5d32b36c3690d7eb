/* SPDX-License-Identifier: MIT */
/*
 * ops_learn.c - learn of memory that the program mapped by itself.
 *
 * The table knows what was mapped through the library. A program may offer other memory, too, and
 * the kernel says of it in /proc/self/maps what it is. The library's own tables lie among it and
 * are forgotten at the end. Memory that it knows already costs no look: the kernel would say
 * nothing else, unless the program mapped it by itself behind the library's back.
 *
 * A program without /proc, or without a free descriptor, gets what it asked for all the same. What
 * cannot be looked at goes into the table unseen (as_unseen.c).
 */
#include "client/ops_learn.h"

#include "client/agent.h"
#include "client/as_life.h"
#include "client/as_names.h"
#include "client/as_ranges.h"
#include "client/as_unseen.h"
#include "client/aside.h"
#include "client/maps.h"

static void learn_mapping(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	struct learned *l = arg;
	struct span part = span_clip((struct span){ e->start, e->end }, l->span);

	l->gap |= part.start != l->end;
	l->end = part.end;
	if (as_may_learn(e) &&
	    (as_unseen_see(part, e) < 0 || as_fill(part.start, part.end, e->prot, 0, 0) < 0))
		l->nomem = true;
	if (as_may_learn(e))
		as_name_learn(part.start, part.end, e->name);
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

/* Is the span mapped, whatever it is? No descriptor is needed for that. */
static void ask_for_gap(struct learned *l)
{
	l->end = l->span.end;
	l->gap = aside_has_gap(l->span.start, l->span.end);
}

void ops_learn(struct learned *l)
{
	struct span s = l->span;
	int nr;

	if (as_has_seen(s)) {
		ask_for_gap(l);
		return;
	}
	nr = maps_walk(s.start, s.end, NULL, NULL);
	if (as_reserve(most_learned(nr < 0 ? 0 : (size_t)nr)) < 0) {
		l->nomem = true;
		return;
	}
	if (nr < 0 || maps_walk(s.start, s.end, learn_mapping, l) < 0) {
		ask_for_gap(l);
		l->nomem |= as_unseen_fill(s) < 0;
	}
	as_clear_own();
	agent_clear_own();
}

/* SPDX-License-Identifier: MIT */
/* ops_learn.c */
#include "client/ops_learn.h"

#include <string.h>

#include "client/agent.h"
#include "client/as_life.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/maps.h"

static bool may_learn(const struct maps_entry *e)
{
	return as.learn == KSMC_LEARN_ALL ||
	       (as.learn == KSMC_LEARN_HEAP && !strcmp(e->name, "[heap]"));
}

/* One mapping of the range, as the kernel sees it: learn it if it may be merged. */
static void learn_mapping(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	struct offer_ctx *c = arg;
	uint64_t start = e->start > c->start ? e->start : c->start;
	uint64_t end = e->end < c->end ? e->end : c->end;

	c->gap |= start != c->at;
	c->at = end;
	if (maps_is_anon(e) && end <= KSM_ADDR_END && may_learn(e) &&
	    as_fill(start, end, e->prot, 0, 0) < 0)
		c->nomem = true;
}

/*
 * Learn what is not known of [start, end). The table must not move meanwhile: it might be learned
 * where it is no more.
 */
void ops_learn(struct offer_ctx *c) NEEDS(as.lock)
{
	bool known = as_covers(c->start, c->end);
	int nr = known ? 0 : maps_walk(0, 0, NULL, NULL);

	if (nr < 0 || (!known && as_reserve(2 * ((size_t)nr + as.nr) + 8) < 0)) {
		c->nomem = true;
		return;
	}
	maps_walk(c->start, c->end, learn_mapping, c);
	if (!known) {
		as_clear_own();
		agent_clear_own();
	}
}

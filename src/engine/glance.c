/* SPDX-License-Identifier: MIT */
/*
 * glance.c - what a worker looks at with the lock released, and what raced with that.
 *
 * A call of change tracking runs without the lock and consumes what it reports. Its answer can be
 * older than a message that the daemon takes in meanwhile, and must then not be believed where it
 * could hurt (see.c has the rules). So the worker opens a glance over the range before the call:
 * blocks with an order under way stay outside, no order starts inside (order.c), and every message
 * that changes what lies inside is noted.
 *
 * Several workers may glance at one client: its own, and those that follow another client into it.
 * So may who looks at it before its counters are read (engine_look()).
 */
#include "engine/glance.h"

bool glance_open(struct glance *t, struct mm_slot *mm, struct span *at)
{
	bool open = true;

	for (unsigned int i = 0; i < MM_MAX_ORDERS && mm->nr_orders; i++) {
		struct span block = block_span(mm->order[i].key);

		if (!mm->order[i].id || !span_meets(block, *at))
			continue;
		if (block.start > at->start) {
			at->end = block.start;
		} else {
			at->end = u64_min(at->end, block.end);
			open = false;
		}
	}
	if (open && !mm->dead)
		*t = (struct glance){ .mm = mm, .at = *at };
	return open;
}

void glance_close(struct glance *t, struct mm_slot *mm)
{
	(void)mm; /* names the lock */
	t->mm = NULL;
}

static void note(struct glance *t, struct span at)
{
	struct span *last = &t->raced[GLANCE_RACED - 1];

	if (!span_meets(at, t->at))
		return;
	if (t->nr_raced < GLANCE_RACED) {
		t->raced[t->nr_raced++] = at;
		return;
	}
	last->start = u64_min(last->start, at.start);
	last->end = u64_max(last->end, at.end);
}

/* That of a worker, or behind these the looker's. */
static struct glance *glance_of(struct engine *e, unsigned int i) NEEDS(e->lock)
{
	return i < ENGINE_WORKERS ? &e->worker[i].glance : &e->looker;
}

void glance_race(struct mm_slot *mm, struct span at)
{
	for (unsigned int i = 0; i <= ENGINE_WORKERS; i++)
		if (glance_of(mm->e, i)->mm == mm)
			note(glance_of(mm->e, i), at);
}

bool glance_raced(const struct glance *t, uint64_t addr)
{
	for (unsigned int i = 0; i < t->nr_raced; i++)
		if (span_holds(t->raced[i], addr))
			return true;
	return false;
}

bool glance_meets(const struct mm_slot *mm, struct span at)
{
	for (unsigned int i = 0; i <= ENGINE_WORKERS; i++) {
		const struct glance *t = glance_of(mm->e, i);

		if (t->mm == mm && span_meets(t->at, at))
			return true;
	}
	return false;
}

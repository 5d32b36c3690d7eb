/* SPDX-License-Identifier: MIT */
/* vacate.c - see vacate.h. */
#include "daemon/vacate.h"

#include <errno.h>

#include "base/clock.h"
#include "base/span.h"

#define VACATE_MS 15000u   /* a grace period, and clients that are slow; as engine/drain.c */
#define LAST_TIMES 8u      /* the same */
#define LEAST_PART 64u     /* of the frames that are left have to go in that time, or one */
#define ABSENT_MS 1000u    /* between two questions whether a node has memory */
#define LOOK_MS 20u        /* between two looks whether retired frames have gone */
#define ROUND_MS 50u       /* after a round the next begins; then twice that ... */
#define ROUND_MAX_MS 1000u /* ... at most */

void vacate_init(struct vacate *r)
{
	*r = (struct vacate){ 0 };
	lock_init(&r->lock);
}

void vacate_deinit(struct vacate *r)
{
	lock_deinit(&r->lock);
}

static bool is_in_use(const struct vacate_node *n)
{
	return n->state == VACATE_IN_USE && !n->absent;
}

/*
 * The nearest other node that is in use, may be used, and was not full; -1: there is none. The
 * kernel is asked with the lock held: these are looks into files of its, and few.
 */
static int nearest(struct vacate *r, struct numa_topology *t, int nid, uint64_t full) NEEDS(r->lock)
{
	int best = -1;

	for (int to = 0; to < t->nr_nodes; to++) {
		if (to == nid || !is_in_use(&r->node[to]) || (full >> to & 1) ||
		    t->ops->usable(t, to))
			continue;
		if (best < 0 || t->distance[nid][to] < t->distance[nid][best])
			best = to;
	}
	return best;
}

/* Where its pages count now. If all others were full, it may be that they are no longer. */
static void choose_home(struct vacate *r, struct numa_topology *t, int nid) NEEDS(r->lock)
{
	struct vacate_node *n = &r->node[nid];
	int to = nearest(r, t, nid, n->full);

	if (to < 0) {
		n->full = 0;
		to = nearest(r, t, nid, 0);
	}
	if (to >= 0)
		n->home = to;
}

/* --- the main thread --- */

int vacate_begin(struct vacate *r, struct numa_topology *t, int nid)
{
	struct vacate_node *n = &r->node[nid];
	int err = 0;

	lock_take(&r->lock);
	if (n->state != VACATE_IN_USE)
		err = -EALREADY;
	else if (t->ops->usable(t, nid) == -ENODEV)
		err = -ENODEV;
	else if (nearest(r, t, nid, 0) < 0)
		err = -ENOMEM;
	else
		*n = (struct vacate_node){ VACATE_GOING, .known = true, .asked = true,
					   .home = nid };
	lock_give(&r->lock);
	return err;
}

bool vacate_end(struct vacate *r, int nid)
{
	struct vacate_node *n = &r->node[nid];
	bool was;

	lock_take(&r->lock);
	was = n->state != VACATE_IN_USE;
	if (n->state == VACATE_GOING)
		n->err = -ECANCELED;
	else if (n->state == VACATE_EMPTY)
		n->asked = false;
	n->state = VACATE_IN_USE;
	lock_give(&r->lock);
	return was;
}

int vacate_nearest(struct vacate *r, struct numa_topology *t, int nid)
{
	int to;

	lock_take(&r->lock);
	to = nearest(r, t, nid, 0);
	lock_give(&r->lock);
	return to;
}

void vacate_look(struct vacate *r, int nid, struct vacate_node *out)
{
	lock_take(&r->lock);
	*out = r->node[nid];
	lock_give(&r->lock);
}

bool vacate_is_in_use(struct vacate *r, int nid)
{
	struct vacate_node n;

	vacate_look(r, nid, &n);
	return n.state == VACATE_IN_USE;
}

/* --- the mover --- */

void vacate_blame(struct vacate *r, int nid, const struct domain *d,
		  const struct engine_culprit *who, int pid)
{
	struct vacate_node *n = &r->node[nid];

	lock_take(&r->lock);
	/* Where memory is short nothing else would have helped. */
	if (n->state == VACATE_GOING && n->culprit.why != MOVE_NO_MEMORY) {
		n->culprit = *who;
		n->domain = d->id;
		n->pid = pid;
	}
	if (who->why == MOVE_NO_MEMORY && n->state != VACATE_IN_USE)
		n->full |= 1ull << n->home;
	lock_give(&r->lock);
}

static struct engine_on_node count(int nid, struct domain **v, unsigned int nr)
{
	struct engine_on_node sum = { 0 };

	for (unsigned int i = 0; i < nr; i++) {
		struct engine_on_node n;

		engine_on_node(v[i]->engine, nid, &n);
		sum.used += n.used;
		sum.retired += n.retired;
	}
	return sum;
}

/* Time is up, or all has gone. */
static void conclude(struct vacate_node *n, uint64_t now)
{
	if (!n->used && !n->retired) {
		n->state = VACATE_EMPTY;
		n->err = 0;
	} else if (now >= n->limit_ms) {
		n->state = VACATE_IN_USE;
		n->err = n->used && n->culprit.why == MOVE_NO_MEMORY ? -ENOMEM : -EBUSY;
		if (!n->used)
			n->culprit.why = MOVE_NOT_FAILED;
	}
}

/* The node is not in use, and no round is under way. Where the next one moves to, or -1. */
static int go_on(struct vacate *r, struct numa_topology *t, int nid, uint64_t now, uint64_t *due_ms)
	NEEDS(r->lock)
{
	struct vacate_node *n = &r->node[nid];

	if (!n->limit_ms) {
		n->patience_ms = u64_max(VACATE_MS, n->used + n->retired);
		n->last_ms = now + LAST_TIMES * n->patience_ms;
		n->least = UINT64_MAX;
		n->pause_ms = ROUND_MS;
	}
	if (n->used + n->retired < n->least - n->least / LEAST_PART) {
		n->least = n->used + n->retired;
		n->limit_ms = u64_min(now + n->patience_ms, n->last_ms);
	}
	if (n->state == VACATE_GOING)
		conclude(n, now);
	if (n->state == VACATE_GOING)
		*due_ms = u64_min(*due_ms, now + LOOK_MS);
	if (n->state == VACATE_EMPTY && !n->used)
		n->next_ms = now + ROUND_MAX_MS;
	if (n->state == VACATE_IN_USE || !n->used || now < n->next_ms)
		return -1;
	n->culprit = (struct engine_culprit){ 0 };
	n->next_ms = now + n->pause_ms;
	n->pause_ms = u64_min(2 * n->pause_ms, ROUND_MAX_MS);
	choose_home(r, t, nid);
	return n->home;
}

/* Has the node memory? Asked now and then, since it costs a look into a file of the kernel. */
static void look_for_memory(struct vacate_node *n, struct numa_topology *t, int nid, uint64_t now)
{
	if (n->asked_ms && now - n->asked_ms < ABSENT_MS)
		return;
	n->asked_ms = now;
	n->absent = t->ops->usable(t, nid) == -ENODEV;
	if (n->absent && !n->known)
		n->home = nid;
	n->known |= n->absent;
}

int vacate_step(struct vacate *r, struct numa_topology *t, int nid, bool busy, struct domain **v,
		unsigned int nr, uint64_t *due_ms)
{
	struct vacate_node *n = &r->node[nid];
	struct engine_on_node on;
	uint64_t now = clock_ms();
	int home = nid, to = -1;
	bool known, due, count_it;

	lock_take(&r->lock);
	look_for_memory(n, t, nid, now);
	known = n->known;
	due = now >= n->next_ms;
	count_it = !busy && (n->state == VACATE_GOING || (n->state == VACATE_EMPTY && due));
	if (n->state != VACATE_IN_USE || n->absent) {
		if (n->home == nid || !is_in_use(&r->node[n->home]))
			choose_home(r, t, nid);
		home = n->home;
	}
	lock_give(&r->lock);
	if (!known)
		return -1;
	/* Also in domains that are new; and back, when it has ended. */
	for (unsigned int i = 0; i < nr; i++)
		engine_set_home(v[i]->engine, nid, home);
	if (home == nid || !count_it)
		return -1;
	for (unsigned int i = 0; i < nr && due; i++)
		engine_count_away(v[i]->engine, nid);
	on = count(nid, v, nr);
	lock_take(&r->lock);
	n->used = on.used;
	n->retired = on.retired;
	if (n->state != VACATE_IN_USE)
		to = go_on(r, t, nid, clock_ms(), due_ms);
	lock_give(&r->lock);
	return to;
}

/* SPDX-License-Identifier: MIT */
/* numa_policy.c - see numa_policy.h. */
#include "engine/numa_policy.h"

#define READERS_MIN 2u   /* of a copy: for one reader alone it would be a private page */
#define MAJORITY_OVER 4u /* a new place needs a quarter more readers than the old one */

/* --- trees --- */

/* May the node join the group whose lowest is `first`? */
static bool fits(const struct policy *p, const uint8_t *group, int first, int nid)
{
	for (int n = first; n < nid; n++)
		if (group[n] == first &&
		    (p->distance[n][nid] > p->within || p->distance[nid][n] > p->within))
			return false;
	return true;
}

void policy_groups(const struct policy *p, uint8_t *group)
{
	for (int nid = 0; nid < p->nr_nodes; nid++) {
		int first = 0;

		if (p->kind == POLICY_NODE)
			first = nid;
		else if (p->kind == POLICY_DISTANCE)
			while (first < nid &&
			       (group[first] != first || !fits(p, group, first, nid)))
				first++;
		group[nid] = (uint8_t)first;
	}
}

/* --- what is where --- */

bool policy_is_copy(const struct policy *p, const struct policy_frame *f)
{
	for (int n = 0; n < p->nr_nodes; n++)
		if (n != f->nid && f->there[n] &&
		    (f->there[n] > f->sharers || (f->there[n] == f->sharers && n < f->nid)))
			return true;
	return false;
}

/* Node of the nearest frame of the same contents, -1 if this is the only one. */
static int nearest(const struct policy *p, const struct policy_frame *f, uint64_t among)
{
	int best = -1;

	for (int n = 0; n < p->nr_nodes; n++)
		if (n != f->nid && f->there[n] && (among >> n & 1) &&
		    (best < 0 || p->distance[f->nid][n] < p->distance[f->nid][best]))
			best = n;
	return best;
}

/* Node with most readers; of equal ones the frame's own, else the one that is nearest to all. */
static int most_read(const struct policy *p, const struct policy_frame *f)
{
	uint64_t cost, least = UINT64_MAX;
	int best = f->nid;

	for (int n = 0; n < p->nr_nodes; n++) {
		if (f->reader[n] < f->reader[best] ||
		    (best == f->nid && n != best && f->reader[n] == f->reader[best]))
			continue;
		cost = 0;
		for (int r = 0; r < p->nr_nodes; r++)
			cost += (uint64_t)f->reader[r] * p->distance[r][n];
		if (f->reader[n] > f->reader[best] || cost < least) {
			best = n;
			least = cost;
		}
	}
	return best;
}

/* The node from which readers on `nid` would read: the frame's, or where there is room for it. */
static int best_there(const struct policy *p, const struct policy_frame *f, int nid)
{
	int best = f->nid;

	for (int n = 0; n < p->nr_nodes; n++)
		if (f->there[n] && (f->room >> n & 1) &&
		    p->distance[nid][n] < p->distance[nid][best])
			best = n;
	return best;
}

/* --- gains --- */

/* What its readers would lose if they went to the other one that is nearest to each. */
static uint64_t loss(const struct policy *p, const struct policy_frame *f)
{
	uint64_t sum = 0;

	for (int n = 0; n < p->nr_nodes; n++) {
		unsigned int far = UINT8_MAX, here = p->distance[n][f->nid];

		for (int o = 0; o < p->nr_nodes; o++)
			if (o != f->nid && f->there[o] && p->distance[n][o] < far)
				far = p->distance[n][o];
		sum += (uint64_t)f->reader[n] * (far > here ? far - here : 0);
	}
	return sum;
}

/* The best that could be made, or that is there; 0: none would spare anything. */
static uint64_t best_copy(const struct policy *p, const struct policy_frame *f, int *to)
{
	uint64_t gain = 0;

	*to = -1;
	for (int n = 0; n < p->nr_nodes; n++) {
		/* Where there is one already it is joined, and spares the whole way. */
		int from = f->there[n] ? f->nid : best_there(p, f, n);
		uint64_t g = (uint64_t)f->reader[n] * (p->distance[n][from] - POLICY_HERE);

		if (n != f->nid && f->reader[n] >= READERS_MIN && g > gain) {
			gain = g;
			*to = n;
		}
	}
	return gain;
}

uint64_t policy_gain(const struct policy *p, const struct policy_frame *f, int *to)
{
	if (!policy_is_copy(p, f))
		return best_copy(p, f, to);
	*to = f->nid;
	return loss(p, f);
}

unsigned int policy_gain_class(uint64_t gain)
{
	unsigned int class = 0;

	while (gain > 1 && class + 1 < POLICY_GAINS) {
		gain >>= 1;
		class ++;
	}
	return class;
}

unsigned int policy_least(const uint64_t nr[POLICY_GAINS], uint64_t budget)
{
	unsigned int class = POLICY_GAINS;

	/* The class that the budget does not cover any more gets what is left of it. */
	while (class && budget) {
		class --;
		budget -= nr[class] < budget ? nr[class] : budget;
	}
	return class;
}

/* --- wishes --- */

static struct policy_wish keep(void)
{
	return (struct policy_wish){ POLICY_KEEP, -1, -1 };
}

/* The frame is wanted at a node; where there is one already its pages go to that. */
static struct policy_wish at(const struct policy_frame *f, int nid)
{
	if (nid == f->nid)
		return keep();
	return (struct policy_wish){ f->room >> nid & 1 ? POLICY_JOIN : POLICY_MOVE, nid, -1 };
}

/* A copy that is not wanted: its pages go to the nearest frame that takes them. */
static struct policy_wish drop(const struct policy *p, const struct policy_frame *f)
{
	int to = nearest(p, f, f->room);

	return to < 0 ? keep() : (struct policy_wish){ POLICY_JOIN, to, -1 };
}

static struct policy_wish wish_majority(const struct policy *p, const struct policy_frame *f)
{
	int best = most_read(p, f);

	if (f->reader[best] <= f->reader[f->nid] + f->reader[f->nid] / MAJORITY_OVER)
		return keep();
	return at(f, best);
}

/* The readers of one node go to a copy that is nearer to them, and costs nothing more. */
static struct policy_wish lead(const struct policy *p, const struct policy_frame *f)
{
	struct policy_wish w = keep();
	uint64_t gain = 0;

	for (int n = 0; n < p->nr_nodes; n++) {
		int to = best_there(p, f, n);
		uint64_t g = (uint64_t)f->reader[n] *
			     (uint64_t)(p->distance[n][f->nid] - p->distance[n][to]);

		if (g > gain) {
			gain = g;
			w = (struct policy_wish){ POLICY_COPY, to, n };
		}
	}
	return w;
}

static struct policy_wish wish_replicate(const struct policy *p, const struct policy_frame *f,
					 const struct policy_room *room)
{
	bool copy = policy_is_copy(p, f);
	uint64_t gain = copy ? loss(p, f) : 0;
	int to;

	/* Half of what a new one must spare, so that none is made and dropped in turns. */
	if (copy && (room->pressure || room->copies > room->budget || !gain ||
		     policy_gain_class(gain) + 1 < p->least))
		return drop(p, f);
	if (!f->reader[f->nid])
		return wish_majority(p, f);
	if (room->pressure)
		return keep();
	gain = best_copy(p, f, &to);
	/* Where there is one, pages of that node were merged with this before it was made. */
	if (to >= 0 && f->sharers >= p->hot && policy_gain_class(gain) >= p->least &&
	    (f->there[to] || room->copies < room->budget))
		return (struct policy_wish){ POLICY_COPY, to, to };
	return lead(p, f);
}

static struct policy_wish wish_interleave(const struct policy *p, const struct policy_frame *f)
{
	/* The trees are sharded by other bits of the hash. */
	return f->sharers < p->hot ? keep() :
				     at(f, (int)((f->hash >> 16) % (unsigned int)p->nr_nodes));
}

struct policy_wish policy_wish(const struct policy *p, const struct policy_frame *f,
			       const struct policy_room *room)
{
	if (p->kind == POLICY_REPLICATE)
		return wish_replicate(p, f, room);
	if (policy_is_copy(p, f))
		return drop(p, f);
	if (p->kind == POLICY_MAJORITY)
		return wish_majority(p, f);
	if (p->kind == POLICY_INTERLEAVE)
		return wish_interleave(p, f);
	return keep();
}

/* SPDX-License-Identifier: MIT */
/*
 * stable.c - stable nodes: their trees, dup lists, the list of retired and that of touched ones.
 *
 * The kernel has a chain head apart from the frames' nodes. Here any of the dups can be the head,
 * because all that a head does is to stand in the tree, and st_replace() puts another into its
 * place.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/stable.h"
#include "engine/movable.h"

#define CTREE_NAME st
#define CTREE_CTX struct stable *
#define CTREE_LINKS(s, i) (&stable_node(s, i)->links)
#define CTREE_KEY(s, i) (stable_node(s, i)->hash)
#include "engine/ctree.h"

int stable_init(struct stable *s, int nr_nodes, const struct slab_memory *memory)
{
	*s = (struct stable){ .retired_first = CTREE_NIL,
			      .retired_last = CTREE_NIL,
			      .touched = CTREE_NIL };
	slab_init(&s->nodes, sizeof(struct stable_node), CTREE_NIL, memory);
	return ctree_roots_init(&s->roots, nr_nodes, memory);
}

void stable_deinit(struct stable *s)
{
	for (uint32_t i = 0; s->nodes.nr; i++)
		if (slab_is_used(&s->nodes, i))
			slab_free(&s->nodes, i);
	slab_deinit(&s->nodes);
	ctree_roots_deinit(&s->roots);
}

void stable_warm(struct stable *s, const int *root, const uint64_t *hash, unsigned int nr)
{
	st_warm(s, &s->roots, root, hash, nr);
}

uint32_t stable_find(struct stable *s, int root, uint64_t hash)
{
	return st_find(s, *ctree_root(&s->roots, root, hash), hash);
}

static uint32_t load(const struct stable_node *n)
{
	return n->nr_items + n->nr_ordered;
}

uint32_t stable_pick(struct stable *s, int root, uint64_t hash, uint32_t limit)
{
	uint32_t head = stable_find(s, root, hash), best = CTREE_NIL;

	if (head == CTREE_NIL || stable_takes(stable_node(s, head), limit))
		return head;
	for (uint32_t n = stable_node(s, head)->dup_next; n != head;
	     n = stable_node(s, n)->dup_next)
		if (stable_takes(stable_node(s, n), limit) &&
		    (best == CTREE_NIL || load(stable_node(s, n)) > load(stable_node(s, best))))
			best = n;
	if (best != CTREE_NIL) {
		st_replace(s, ctree_root(&s->roots, root, hash), head, best);
		stable_node(s, head)->in_tree = 0;
		stable_node(s, best)->in_tree = 1;
	}
	return best;
}

static bool is_there(const struct stable_node *n, const struct stable_where *w)
{
	return n->frame >= w->first && n->frame < w->end &&
	       (w->nid < 0 || (n->nid == w->nid && !n->away));
}

uint32_t stable_pick_in(struct stable *s, int root, uint64_t hash, uint32_t limit,
			const struct stable_where *w, uint64_t *room)
{
	uint32_t head = stable_find(s, root, hash), best = CTREE_NIL, i = head;
	uint64_t sum = 0;

	while (i != CTREE_NIL) {
		const struct stable_node *n = stable_node(s, i);

		if (is_there(n, w) && !n->filling && stable_takes(n, limit)) {
			sum += limit - load(n);
			if (best == CTREE_NIL || load(n) > load(stable_node(s, best)))
				best = i;
		}
		i = n->dup_next == head ? CTREE_NIL : n->dup_next;
	}
	if (room)
		*room = sum;
	return best;
}

uint32_t stable_pick_on(struct stable *s, int root, uint64_t hash, uint32_t limit, int nid)
{
	uint32_t head = stable_find(s, root, hash), best = CTREE_NIL, i = head;

	for (uint32_t looked = 0; i != CTREE_NIL && looked < STABLE_LOOK; looked++) {
		const struct stable_node *n = stable_node(s, i);

		if (n->nid == nid && n->filling <= STABLE_FILLING && stable_takes(n, limit) &&
		    (best == CTREE_NIL || load(n) > load(stable_node(s, best))))
			best = i;
		i = n->dup_next == head ? CTREE_NIL : n->dup_next;
	}
	return best;
}

bool stable_has_busy_dup(const struct stable *s, uint32_t i)
{
	const struct stable_node *n = stable_node(s, i), *dup = n;

	for (uint32_t looked = 0; looked < STABLE_LOOK && dup->dup_next != i; looked++) {
		dup = stable_node(s, dup->dup_next);
		if (dup->nid == n->nid && (dup->isolated || dup->filling == STABLE_FILLING))
			return true;
	}
	return false;
}

/* A LIVE node comes to count for its NUMA node, or does no longer. */
static void count_place(struct stable *s, const struct stable_node *n, bool more)
{
	uint32_t zone = s->zone_frames ? n->frame / s->zone_frames : n->nid;
	struct stable_place *p = &s->place[n->nid];
	uint64_t one = more ? 1 : UINT64_MAX;

	p->sites += one * n->nr_items;
	p->shared += one * (n->nr_items > 0);
	p->copies += one * n->copy;
	s->nr_copies += one * n->copy;
	if (n->away || n->nid != zone)
		s->place[zone].elsewhere += one;
	else
		s->place[zone].own += one;
}

/* A node that no site is moving from. */
static void make_live(struct stable_node *n)
{
	n->state = STABLE_LIVE;
	n->movable = true;
	n->to = CTREE_NIL;
	n->nr_moving = 0;
}

/* --- what movers may do with it --- */

static struct movable state_of(void *owner, uint32_t n)
{
	const struct stable_node *node = stable_node((const struct stable *)owner, n);

	return (struct movable){ node->movable, node->isolated };
}

static bool isolate(void *owner, uint32_t n)
{
	struct stable *s = owner;
	struct stable_node *node = stable_node(s, n);

	if (node->state != STABLE_LIVE || node->isolated || node->filling)
		return false;
	node->isolated = true;
	s->nr_isolated++;
	return true;
}

/* A node that has no site left is freed when it is settled, not by this. */
static void putback(void *owner, uint32_t n)
{
	struct stable *s = owner;

	stable_node(s, n)->isolated = false;
	s->nr_isolated--;
	stable_touch(s, n);
}

static const struct movable_ops ops = { .state = state_of, .isolate = isolate, .putback = putback };

/* --- the trees --- */

/* Put the node into the tree, as head: the newest frame of a content has room. */
static void link_live(struct stable *s, uint32_t i, int root)
{
	struct stable_node *n = stable_node(s, i), *h;
	uint32_t head;

	n->root = (uint8_t)root;
	n->in_tree = 1;
	n->dup_prev = n->dup_next = i;
	s->nr_live++;
	s->nr_on[n->nid]++;
	s->nr_away += n->away;
	count_place(s, n, true);
	head = st_insert(s, ctree_root(&s->roots, root, n->hash), i);
	if (head == CTREE_NIL)
		return;
	h = stable_node(s, head);
	st_replace(s, ctree_root(&s->roots, root, n->hash), head, i);
	h->in_tree = 0;
	if (h->dup_next == head) {
		s->nr_chains++;
		s->nr_dups++;
	}
	s->nr_dups++;
	n->dup_prev = head;
	n->dup_next = h->dup_next;
	stable_node(s, h->dup_next)->dup_prev = i;
	h->dup_next = i;
}

void stable_set_meets(struct stable *s, uint32_t i, uint8_t tries)
{
	struct stable_node *n = stable_node(s, i);

	s->nr_meets += (tries > 0) - (n->meets > 0);
	n->meets = tries;
}

static void unlink_live(struct stable *s, uint32_t i)
{
	struct stable_node *n = stable_node(s, i);
	uint32_t other = n->dup_next;

	assert(n->state == STABLE_LIVE && !n->isolated);
	stable_set_meets(s, i, 0);
	s->nr_live--;
	s->nr_on[n->nid]--;
	s->nr_away -= n->away;
	count_place(s, n, false);
	n->copy = false;
	if (other == i) {
		st_erase(s, ctree_root(&s->roots, n->root, n->hash), i);
		return;
	}
	if (n->in_tree) {
		st_replace(s, ctree_root(&s->roots, n->root, n->hash), i, other);
		stable_node(s, other)->in_tree = 1;
	}
	stable_node(s, n->dup_prev)->dup_next = n->dup_next;
	stable_node(s, n->dup_next)->dup_prev = n->dup_prev;
	s->nr_dups--;
	if (stable_node(s, other)->dup_next == other) {
		s->nr_dups--;
		s->nr_chains--;
		stable_set_copy(s, other, false);
	}
}

uint32_t stable_new(struct stable *s, int root, int nid, uint64_t hash, uint32_t frame)
{
	uint32_t i = slab_alloc(&s->nodes, (unsigned int)nid);
	struct stable_node *n;

	if (i == SLAB_NIL)
		return CTREE_NIL;
	n = stable_node(s, i);
	n->hash = hash;
	n->frame = frame;
	n->nid = (uint8_t)nid;
	n->first = CTREE_NIL;
	make_live(n);
	link_live(s, i, root);
	return i;
}

void stable_set_nid(struct stable *s, uint32_t i, int nid, int root)
{
	struct stable_node *n = stable_node(s, i);

	if (n->root == root) {
		count_place(s, n, false);
		s->nr_away -= n->away;
	} else {
		unlink_live(s, i);
	}
	n->away = false;
	if (n->root == root) {
		s->nr_on[n->nid]--;
		s->nr_on[nid]++;
		n->nid = (uint8_t)nid;
		count_place(s, n, true);
		return;
	}
	n->nid = (uint8_t)nid;
	link_live(s, i, root);
	if (n->dup_next != i)
		stable_set_meets(s, i, STABLE_MEET_TRIES);
}

void stable_replace(struct stable *s, uint32_t i, uint32_t to)
{
	const struct stable_node *n = stable_node(s, i);
	struct stable_node *copy = stable_node(s, to);

	*copy = *n;
	if (n->in_tree)
		st_replace(s, ctree_root(&s->roots, n->root, n->hash), i, to);
	copy->dup_prev = n->dup_prev == i ? to : n->dup_prev;
	copy->dup_next = n->dup_next == i ? to : n->dup_next;
	stable_node(s, copy->dup_prev)->dup_next = to;
	stable_node(s, copy->dup_next)->dup_prev = to;
}

void stable_set_copy(struct stable *s, uint32_t i, bool copy)
{
	struct stable_node *n = stable_node(s, i);

	if (n->copy == copy)
		return;
	count_place(s, n, false);
	n->copy = copy;
	count_place(s, n, true);
}

void stable_set_away(struct stable *s, uint32_t n)
{
	s->nr_away += !stable_node(s, n)->away;
	count_place(s, stable_node(s, n), false);
	stable_node(s, n)->away = true;
	count_place(s, stable_node(s, n), true);
}

static bool is_empty(const struct stable_node *n)
{
	return !n->nr_items && !n->nr_ordered;
}

void stable_free(struct stable *s, uint32_t n)
{
	assert(is_empty(stable_node(s, n)));
	unlink_live(s, n);
	stable_node(s, n)->movable = false;
	movable_release(&ops, s, n);
	slab_free(&s->nodes, n);
}

void stable_retire(struct stable *s, uint32_t i, uint64_t epoch)
{
	struct stable_node *n = stable_node(s, i);

	assert(is_empty(n));
	unlink_live(s, i);
	n->movable = false;
	movable_release(&ops, s, i);
	n->state = STABLE_RETIRED;
	n->in_tree = 0;
	n->epoch = epoch;
	n->links.child[0] = s->retired_last;
	n->links.child[1] = CTREE_NIL;
	if (s->retired_last == CTREE_NIL)
		s->retired_first = i;
	else
		stable_node(s, s->retired_last)->links.child[1] = i;
	s->retired_last = i;
	s->nr_retired++;
}

static void unlink_retired(struct stable *s, uint32_t i)
{
	struct stable_node *n = stable_node(s, i);
	uint32_t prev = n->links.child[0], next = n->links.child[1];

	assert(n->state == STABLE_RETIRED);
	if (prev == CTREE_NIL)
		s->retired_first = next;
	else
		stable_node(s, prev)->links.child[1] = next;
	if (next == CTREE_NIL)
		s->retired_last = prev;
	else
		stable_node(s, next)->links.child[0] = prev;
	s->nr_retired--;
}

void stable_revive(struct stable *s, uint32_t n, int root)
{
	unlink_retired(s, n);
	make_live(stable_node(s, n));
	link_live(s, n, root);
	/* Its pages had moved away, to another frame of their content, which a page did not see. */
	if (stable_node(s, n)->dup_next != n)
		stable_set_meets(s, n, STABLE_MEET_TRIES);
}

bool stable_reap(struct stable *s, uint64_t upto, uint32_t *frame)
{
	uint32_t i = s->retired_first;

	/* Epochs only grow, so the list is in order of epochs. */
	if (i == CTREE_NIL || stable_node(s, i)->epoch > upto)
		return false;
	*frame = stable_node(s, i)->frame;
	unlink_retired(s, i);
	slab_free(&s->nodes, i);
	return true;
}

uint64_t stable_nr_retired_on(struct stable *s, int nid)
{
	uint64_t nr = 0;

	for (uint32_t i = s->retired_first; i != CTREE_NIL; i = stable_node(s, i)->links.child[1])
		nr += stable_node(s, i)->nid == nid && !stable_node(s, i)->away;
	return nr;
}

void stable_add_site(struct stable *s, uint32_t n)
{
	struct stable_node *node = stable_node(s, n);

	s->place[node->nid].sites++;
	if (node->nr_items++)
		return;
	s->nr_shared++;
	s->place[node->nid].shared++;
}

void stable_del_site(struct stable *s, uint32_t n)
{
	struct stable_node *node = stable_node(s, n);

	assert(node->nr_items);
	s->place[node->nid].sites--;
	if (--node->nr_items)
		return;
	s->nr_shared--;
	s->place[node->nid].shared--;
}

bool stable_isolate(struct stable *s, uint32_t n)
{
	return movable_isolate(&ops, s, n);
}

void stable_putback(struct stable *s, uint32_t n)
{
	movable_putback(&ops, s, n);
}

void stable_add_move(struct stable *s, uint32_t n, uint32_t to)
{
	struct stable_node *node = stable_node(s, n);

	assert(node->state == STABLE_LIVE && to != n && (!node->nr_moving || node->to == to));
	node->to = to;
	node->nr_moving++;
	stable_node(s, to)->nr_ordered++;
}

void stable_del_move(struct stable *s, uint32_t n)
{
	struct stable_node *node = stable_node(s, n);

	assert(node->nr_moving);
	stable_node(s, node->to)->nr_ordered--;
	stable_touch(s, node->to);
	if (!--node->nr_moving) {
		node->to = CTREE_NIL;
		node->exact = false;
	}
}

void stable_touch(struct stable *s, uint32_t n)
{
	struct stable_node *node = stable_node(s, n);

	if (node->touched)
		return;
	node->touched = true;
	node->next_touched = s->touched;
	s->touched = n;
}

uint32_t stable_next_touched(struct stable *s)
{
	uint32_t n = s->touched;

	if (n != CTREE_NIL) {
		s->touched = stable_node(s, n)->next_touched;
		stable_node(s, n)->touched = false;
	}
	return n;
}

/* One content: its head, and the dup list from there. */
static int check_dups(struct stable *s, uint32_t head, const char **why)
{
	struct stable_node *h = stable_node(s, head), *n;
	uint32_t i = head, nr = 0;

	do {
		n = stable_node(s, i);
		*why = "dup list";
		if (n->state != STABLE_LIVE || n->hash != h->hash || n->root != h->root ||
		    n->in_tree != (i == head) || stable_node(s, n->dup_next)->dup_prev != i)
			return -1;
		i = n->dup_next;
	} while (i != head && ++nr <= s->nr_live);
	return i == head ? 0 : -1;
}

/* The same sums over all LIVE nodes. */
static int check_places(struct stable *s)
{
	struct stable sum = { .zone_frames = s->zone_frames };

	for (uint32_t i = 0; i < s->nodes.nr_chunks * SLAB_CHUNK; i++)
		if (slab_is_used(&s->nodes, i) && stable_node(s, i)->state == STABLE_LIVE)
			count_place(&sum, stable_node(s, i), true);
	return sum.nr_copies != s->nr_copies || memcmp(sum.place, s->place, sizeof(sum.place)) ?
		       -1 :
		       0;
}

static int check_nids(const struct stable *s)
{
	uint64_t on[STABLE_NIDS] = { 0 }, meets = 0;

	for (uint32_t i = 0; i < s->nodes.nr_chunks * SLAB_CHUNK; i++) {
		const struct stable_node *n;

		if (!slab_is_used(&s->nodes, i))
			continue;
		n = stable_node(s, i);
		if (n->state == STABLE_RETIRED)
			continue;
		meets += n->meets > 0;
		on[n->nid]++;
	}
	return meets == s->nr_meets && !memcmp(on, s->nr_on, sizeof(on)) ? 0 : -1;
}

int stable_check(struct stable *s, const char **why)
{
	uint64_t live = 0, heads = 0, shared = 0, chains = 0, dups = 0;
	uint64_t retired = 0, in_trees = 0, epoch = 0, isolated = 0, away = 0, nr;

	*why = "touched node";
	if (s->touched != CTREE_NIL)
		return -1;
	for (uint32_t i = 0; i < s->nodes.nr_chunks * SLAB_CHUNK; i++) {
		struct stable_node *n;

		if (!slab_is_used(&s->nodes, i))
			continue;
		n = stable_node(s, i);
		if (n->state == STABLE_RETIRED)
			continue;
		live++;
		shared += n->nr_items > 0;
		dups += n->dup_next != i;
		isolated += n->isolated;
		away += n->away;
		heads += n->in_tree;
		chains += n->in_tree && n->dup_next != i;
		*why = "live node that nobody may move";
		if (!n->movable)
			return -1;
		*why = "live node without sites or orders";
		if (!n->nr_items && !n->nr_ordered && !n->filling && !n->isolated)
			return -1;
		if (n->in_tree && check_dups(s, i, why))
			return -1;
	}
	for (uint32_t i = s->retired_first; i != CTREE_NIL; i = stable_node(s, i)->links.child[1]) {
		*why = "retired list";
		if (stable_node(s, i)->state != STABLE_RETIRED || stable_node(s, i)->nr_items ||
		    stable_node(s, i)->epoch < epoch)
			return -1;
		epoch = stable_node(s, i)->epoch;
		retired++;
	}
	for (uint32_t r = 0; r < s->roots.nr; r++) {
		*why = "stable tree";
		if (st_check(s, ctree_root_at(&s->roots, r), &nr))
			return -1;
		in_trees += nr;
	}
	*why = "places of frames";
	if (check_places(s) || check_nids(s))
		return -1;
	*why = "stable counters";
	return live == s->nr_live && shared == s->nr_shared && chains == s->nr_chains &&
			       dups == s->nr_dups && retired == s->nr_retired &&
			       isolated == s->nr_isolated && away == s->nr_away &&
			       heads == in_trees && live + retired == s->nodes.nr ?
		       0 :
		       -1;
}

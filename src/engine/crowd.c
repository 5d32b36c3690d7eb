/* SPDX-License-Identifier: MIT */
/*
 * crowd.c - equal pages that wait: for processes that hold the same, or for a random time.
 *
 * Every member of a domain can read its frames. So contents that stand at two places of one service
 * (a parent and its children, say) become readable for its neighbours in the domain. Where the
 * operator does not want that, contents get a frame only when processes of several fork families
 * hold them (min_sharers). And whoever holds contents learns by a write's time when somebody else
 * came to hold them, too; a random delay (merge_delay_millisecs) blurs that.
 *
 * Meanwhile pages of equal contents form a crowd, in the state WAITING. A crowd counts by family,
 * which is exact, because each page is on the list of its family and leaves it when it is written
 * or goes. So what is counted was read at every family, and no page of it was seen to be written
 * since. It counts no more families than min_sharers can ask for: a page of yet another one is
 * hashed again later, when the crowd will have gone.
 *
 * A crowd of one page is a page whose contents have a frame already and which waits for its time.
 * What is unique stands in the unstable tree and is in no crowd; no contents are in both.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/crowd.h"
#include "engine/hash.h"

#define CTREE_NAME wt
#define CTREE_CTX struct engine *
#define CTREE_LINKS(e, i) (&crowd_at(e, i)->links)
#define CTREE_KEY(e, i) (crowd_at(e, i)->hash)
#include "engine/ctree.h"

/* By time; the crowd's number makes keys unique. */
#define CTREE_NAME dt
#define CTREE_CTX struct engine *
#define CTREE_LINKS(e, i) (&crowd_at(e, i)->due_links)
#define CTREE_KEY(e, i) (crowd_at(e, i)->due * CROWD_MAX + (i))
#include "engine/ctree.h"

int crowds_init(struct engine *e, int nr_nodes, const struct slab_memory *memory)
{
	struct crowds *all = &e->crowds;

	slab_init(&all->slab, sizeof(struct crowd), CROWD_MAX, memory);
	all->due_root = all->touched = NIL;
	return ctree_roots_init(&all->roots, nr_nodes, memory);
}

void crowds_deinit(struct engine *e)
{
	slab_deinit(&e->crowds.slab);
	ctree_roots_deinit(&e->crowds.roots);
}

uint32_t crowd_find(struct engine *e, int root, uint64_t hash)
{
	if (!e->crowds.slab.nr)
		return NIL;
	return wt_find(e, *ctree_root(&e->crowds.roots, root, hash), hash);
}

uint32_t crowd_new(struct engine *e, int root, uint64_t hash)
{
	uint32_t c = slab_alloc(&e->crowds.slab, (unsigned int)root);
	struct crowd *crowd;

	if (c == SLAB_NIL)
		return NIL;
	crowd = crowd_at(e, c);
	crowd->hash = hash;
	crowd->root = (uint8_t)root;
	wt_insert(e, ctree_root(&e->crowds.roots, root, hash), c);
	crowd_touch(e, c);
	return c;
}

void crowd_free(struct engine *e, uint32_t c)
{
	struct crowd *crowd = crowd_at(e, c);

	assert(!crowd->nr && !crowd->touched);
	crowd_set_raw(e, c);
	wt_erase(e, ctree_root(&e->crowds.roots, crowd->root, crowd->hash), c);
	slab_free(&e->crowds.slab, c);
}

/* --- pages --- */

static uint64_t family_of(const struct engine *e, uint32_t item)
{
	return block_mm(rmap_block(e, item / BLOCK_PAGES))->family;
}

/* The party of this family, or a free one; NULL: there is neither. */
static struct party *party_for(struct crowd *crowd, uint64_t family)
{
	struct party *free = NULL;

	for (unsigned int i = 0; i < CROWD_PARTIES; i++) {
		struct party *p = &crowd->party[i];

		if (p->nr && p->family == family)
			return p;
		if (!p->nr && !free)
			free = p;
	}
	return free;
}

bool crowd_takes(const struct engine *e, uint32_t c, uint64_t family)
{
	return party_for(crowd_at(e, c), family);
}

void crowd_add(struct engine *e, uint32_t c, uint32_t item)
{
	struct crowd *crowd = crowd_at(e, c);
	struct rmap_item *it = rmap_item(e, item);
	struct party *p = party_for(crowd, family_of(e, item));

	assert(p); /* the caller has asked crowd_takes() */
	if (!p->nr++) {
		p->family = family_of(e, item);
		p->first = NIL;
	}
	it->s.node = c;
	it->s.prev = NIL;
	it->s.next = p->first;
	if (p->first != NIL)
		rmap_item(e, p->first)->s.prev = item;
	p->first = item;
	crowd->nr++;
	crowd_touch(e, c);
}

void crowd_del(struct engine *e, uint32_t item)
{
	const struct rmap_item *it = rmap_item(e, item);
	struct crowd *crowd = crowd_at(e, it->s.node);
	struct party *p = party_for(crowd, family_of(e, item));
	uint32_t prev = it->s.prev, next = it->s.next;

	if (prev == NIL)
		p->first = next;
	else
		rmap_item(e, prev)->s.next = next;
	if (next != NIL)
		rmap_item(e, next)->s.prev = prev;
	p->nr--;
	crowd->nr--;
	crowd_touch(e, it->s.node);
}

uint32_t *crowd_first(struct engine *e, uint32_t item)
{
	return &party_for(crowd_at(e, rmap_item(e, item)->s.node), family_of(e, item))->first;
}

uint32_t crowd_item(const struct engine *e, uint32_t c, uint32_t but)
{
	const struct crowd *crowd = crowd_at(e, c);
	uint32_t found = NIL;

	for (unsigned int i = 0; i < CROWD_PARTIES; i++) {
		const struct party *p = &crowd->party[i];

		if (!p->nr)
			continue;
		if (but == NIL || p->family != family_of(e, but))
			return p->first;
		found = p->first != but ? p->first : rmap_item(e, but)->s.next;
	}
	return found;
}

bool crowd_enough(struct engine *e, uint32_t c)
{
	const struct crowd *crowd = crowd_at(e, c);
	unsigned int families = 0;

	if (stable_find(&e->stable, crowd->root, crowd->hash) != NIL)
		return true;
	if (e->one_client)
		return crowd->nr > 1;
	for (unsigned int i = 0; i < CROWD_PARTIES; i++)
		families += crowd->party[i].nr > 0;
	return crowd->nr > 1 && families >= knob_get(e->knobs, KNOB_MIN_SHARERS);
}

/* --- what is to be settled --- */

void crowd_touch(struct engine *e, uint32_t c)
{
	struct crowd *crowd = crowd_at(e, c);

	if (crowd->touched)
		return;
	crowd->touched = true;
	crowd->next_touched = e->crowds.touched;
	e->crowds.touched = c;
}

uint32_t crowd_next_touched(struct engine *e)
{
	uint32_t c = e->crowds.touched;

	if (c != NIL) {
		e->crowds.touched = crowd_at(e, c)->next_touched;
		crowd_at(e, c)->touched = false;
	}
	return c;
}

/* --- time --- */

/*
 * Uniform in [0, limit]. The daemon gives new random bits with each tick that finds a limit, and
 * the seed of the hashes is secret, so nobody who sees some of the times can tell the next.
 */
static uint64_t draw(struct engine *e, uint64_t limit)
{
	uint64_t in[3] = { e->hash_seed, e->crowds.salt, e->crowds.draws++ };
	uint64_t r = bytes_hash(in, sizeof(in), e->crowds.salt ^ e->hash_seed);

	return (uint64_t)((unsigned __int128)r * (limit + 1) >> 64);
}

void crowd_start_wait(struct engine *e, uint32_t c)
{
	struct crowd *crowd = crowd_at(e, c);

	crowd->due = e->crowds.now + draw(e, knob_get(e->knobs, KNOB_MERGE_DELAY_MILLISECS));
	crowd->timed = true;
	dt_insert(e, &e->crowds.due_root, c);
}

static void stop_wait(struct engine *e, uint32_t c)
{
	if (crowd_at(e, c)->timed)
		dt_erase(e, &e->crowds.due_root, c);
	crowd_at(e, c)->timed = false;
}

void crowd_set_ripe(struct engine *e, uint32_t c)
{
	stop_wait(e, c);
	crowd_at(e, c)->ripe = true;
	crowd_touch(e, c);
}

void crowd_set_raw(struct engine *e, uint32_t c)
{
	stop_wait(e, c);
	crowd_at(e, c)->ripe = false;
}

uint32_t crowd_next_due(struct engine *e)
{
	uint32_t c = e->crowds.due_root;

	if (c == NIL)
		return NIL;
	while (crowd_at(e, c)->due_links.child[0] != NIL)
		c = crowd_at(e, c)->due_links.child[0];
	if (crowd_at(e, c)->due > e->crowds.now)
		return NIL;
	crowd_set_ripe(e, c);
	return c;
}

/* --- verification --- */

/* Pages of one party; UINT32_MAX when the list is wrong. */
static uint32_t check_party(const struct engine *e, uint32_t c, const struct party *p)
	NEEDS(e->lock)
{
	uint32_t nr = 0, prev = NIL;

	for (uint32_t i = p->nr ? p->first : NIL; i != NIL; nr++) {
		const struct rmap_item *it = rmap_item(e, i);

		if (rmap_state(rmap_block(e, i / BLOCK_PAGES), i % BLOCK_PAGES) != RMAP_WAITING ||
		    it->s.node != c || it->s.prev != prev || nr >= p->nr ||
		    family_of(e, i) != p->family || item_hash(it) != crowd_at(e, c)->hash)
			return UINT32_MAX;
		prev = i;
		i = it->s.next;
	}
	return nr == p->nr ? nr : UINT32_MAX;
}

static int check_crowd(struct engine *e, uint32_t c, const char **why) NEEDS(e->lock)
{
	const struct crowd *crowd = crowd_at(e, c);
	uint32_t nr = 0;

	*why = "a crowd's pages";
	for (unsigned int i = 0; i < CROWD_PARTIES; i++) {
		uint32_t n = check_party(e, c, &crowd->party[i]);

		if (n == UINT32_MAX)
			return -1;
		nr += n;
	}
	if (!nr || nr != crowd->nr)
		return -1;
	*why = "a crowd's time";
	return crowd->touched || (crowd->timed && crowd->ripe) ? -1 : 0;
}

int crowds_check(struct engine *e, const char **why)
{
	uint64_t pages = 0, timed = 0, nr, in_trees = 0;

	for (uint32_t c = 0; c < e->crowds.slab.nr_chunks * SLAB_CHUNK; c++) {
		if (!slab_is_used(&e->crowds.slab, c))
			continue;
		if (check_crowd(e, c, why))
			return -1;
		pages += crowd_at(e, c)->nr;
		timed += crowd_at(e, c)->timed;
	}
	*why = "crowds' tree";
	for (uint32_t r = 0; r < e->crowds.roots.nr; r++) {
		if (wt_check(e, ctree_root_at(&e->crowds.roots, r), &nr))
			return -1;
		in_trees += nr;
	}
	*why = "crowds' times";
	if (dt_check(e, e->crowds.due_root, &nr) || nr != timed)
		return -1;
	*why = "pages that wait";
	return in_trees == e->crowds.slab.nr && pages == e->nr_state[RMAP_WAITING] ? 0 : -1;
}

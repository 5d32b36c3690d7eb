/* SPDX-License-Identifier: MIT */
/*
 * across.c - the knobs merge_policy and merge_across_nodes: one tree for all nodes, one for each,
 * or one for each group of nodes.
 *
 * The knobs say which tree a content stands in. While no tree has stable nodes they are taken over
 * at once, unique pages are hashed again and sorted into the new trees. merge_across_nodes changes
 * only then, as the kernel's.
 *
 * merge_policy changes at any time. New pages go by the new groups from then on; what stands in
 * trees of the old ones is sorted part by part: stable nodes go to the tree of the node that their
 * frame lies on, unique and waiting pages are hashed again. Safe because each of them knows, or is
 * asked, in which tree it stands. Meanwhile equal contents may miss each other and get a frame
 * more, which becomes a dup, or meet across groups once. Pages that share a frame go on doing so.
 */
#include "engine/across.h"

#include <string.h>

#include "engine/crowd.h"
#include "engine/page.h"

#define PART 4096u /* nodes, pages or trees at a time: half a millisecond */

static void sort_again(struct engine *e, uint32_t i) NEEDS(e->lock)
{
	page_set(e, i / BLOCK_PAGES, i % BLOCK_PAGES, RMAP_VOLATILE, 0);
	page_pend(e, i / BLOCK_PAGES, i % BLOCK_PAGES, false);
}

/* Unique pages, from tree `next_root` on, until `left` is 0. */
static void empty_unstable(struct engine *e, uint32_t *left) NEEDS(e->lock)
{
	for (; e->next_root < e->unstable.nr && *left; e->next_root++, --*left) {
		uint32_t item;

		while ((item = ctree_root_at(&e->unstable, e->next_root)) != NIL) {
			if (!--*left)
				return;
			sort_again(e, item);
		}
	}
}

static void empty_crowds(struct engine *e, uint32_t *left) NEEDS(e->lock)
{
	uint32_t end = e->crowds.slab.nr_chunks * SLAB_CHUNK;

	for (; e->next_crowd < end && *left; e->next_crowd++, --*left)
		while (slab_is_used(&e->crowds.slab, e->next_crowd) &&
		       crowd_at(e, e->next_crowd)->nr) {
			if (!--*left)
				return;
			sort_again(e, crowd_item(e, e->next_crowd, NIL));
		}
	if (*left)
		e->next_crowd = UINT32_MAX;
}

/* False: some are isolated, so there is another round. */
static bool sort_nodes(struct engine *e, uint32_t *left) NEEDS(e->lock)
{
	uint32_t end = e->stable.nodes.nr_chunks * SLAB_CHUNK;
	bool all = true;

	for (; e->next_node < end && *left; e->next_node++, --*left) {
		const struct stable_node *n;

		if (!slab_is_used(&e->stable.nodes, e->next_node))
			continue;
		n = stable_node(&e->stable, e->next_node);
		if (n->state != STABLE_LIVE || n->root == tree_root(e, n->nid))
			continue;
		if (n->isolated)
			all = false;
		else
			stable_set_nid(&e->stable, e->next_node, n->nid, tree_root(e, n->nid));
	}
	return all;
}

bool across_step(struct engine *e)
{
	uint32_t left = PART;

	if (!e->resort)
		return false;
	if (!sort_nodes(e, &left)) {
		e->next_node = 0;
		return false; /* the next tick tries again: whoever has them puts them back */
	}
	empty_unstable(e, &left);
	if (left)
		empty_crowds(e, &left);
	e->resort = !left;
	return e->resort;
}

/* A worker may see one of the two knobs before the other. */
static enum policy_kind kind_of(const struct ksm_knobs *k)
{
	enum policy_kind kind = (enum policy_kind)knob_get(k, KNOB_MERGE_POLICY);

	if (!knob_get(k, KNOB_MERGE_ACROSS_NODES))
		return POLICY_NODE;
	return kind == POLICY_NODE ? POLICY_GLOBAL : kind;
}

static void read_knobs(struct engine *e, struct policy *p)
{
	*p = (struct policy){
		.kind = kind_of(e->knobs),
		.nr_nodes = e->nr_nodes,
		.within = knob_get(e->knobs, KNOB_MERGE_DISTANCE),
		.hot = knob_get(e->knobs, KNOB_HOT_SHARERS),
		.least = e->policy.least,
		.distance = e->distance,
	};
}

static bool take_groups(struct engine *e, const struct policy *p)
{
	uint8_t group[ENGINE_NODES] = { 0 };

	e->policy = *p;
	policy_groups(p, group);
	if (!memcmp(group, e->group, sizeof(group)))
		return false;
	memcpy(e->group, group, sizeof(group));
	e->merge_across = true;
	for (int nid = 0; nid < e->nr_nodes; nid++)
		e->merge_across &= !group[nid];
	return true;
}

void across_init(struct engine *e)
{
	struct policy p;

	e->policy.least = POLICY_GAINS;
	read_knobs(e, &p);
	e->merge_across = true;
	take_groups(e, &p);
}

void across_take(struct engine *e)
{
	struct policy p;

	read_knobs(e, &p);
	/* merge_across_nodes alone cannot change while pages are shared; see above. */
	if (p.kind == e->policy.kind && p.within == e->policy.within) {
		e->policy.hot = p.hot;
		return;
	}
	if (!take_groups(e, &p))
		return;
	e->resort = true;
	e->next_node = e->next_root = e->next_crowd = 0;
	while (!e->stable.nr_live && across_step(e))
		;
}

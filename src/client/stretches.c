/* SPDX-License-Identifier: MIT */
/*
 * stretches.c - see stretches.h.
 *
 * A stretch may have small gaps of pages that are not in the order. Leaving and joining
 * userfaultfds splits and joins mappings and costs 12 us a stretch. Pages in the gap are taken for
 * written afterwards and hashed again, which costs 2 us each.
 *
 * All stretches of all orders that are carried out together join before the first page is out, and
 * leave when the last is back. So what can be done once is paid once: where an order has eight
 * single pages it takes 28 us a page, and 43 stretch by stretch. Stretches that follow each other
 * join in one call: one for eight orders where whole blocks are merged, or where half of the pages
 * are zeros: there the calls were a third of the agent's time. A stretch whose pages are in place
 * makes nobody wait, but for holes (uffd_serve()).
 */
#include "client/stretches.h"

#include <string.h>

#include "base/span.h"
#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_ranges.h"
#include "client/changed.h"
#include "client/maps.h"
#include "client/pageset.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

#define MAX_GAP 4u   /* pages; see above */
#define MANY_RUNS 3u /* to ask where a mapping ends costs two looks for a policy */

bool stretches_next(const struct order_pages *of, uint64_t set, unsigned int *from,
		    unsigned int *to)
{
	unsigned int next, end;

	if (!pageset_next(set, from, to))
		return false;
	next = *from + 1;
	if (pageset_next(of->first, &next, &end) && next < *to)
		*to = next;
	return true;
}

/* ---- which ---- */

/*
 * The stretch that begins with page `from`: pages of the mask and small gaps between them, in one
 * known range. A gap has nothing that stands on frames, and nothing that is not ours. Returns its
 * pages, and where it ends.
 */
static uint64_t find(const struct ksm_msg_order *m, uint64_t mask, unsigned int from,
		     unsigned int *to) NEEDS(as.lock)
{
	const struct as_range *r = as_first(order_page(m, from));
	uint64_t last = (r->end - m->addr) / KSM_PAGE_SIZE; /* of the range, exclusive */
	uint64_t pages = 0;

	*to = from;
	for (unsigned int i = from; i < KSM_ORDER_PAGES && i < last; i++) {
		if (mask & pageset_bit(i)) {
			pages |= pageset_bit(i);
			*to = i + 1;
		} else if (i - *to >= MAX_GAP || as_frame_bit(order_page(m, i))) {
			break;
		}
	}
	return pages;
}

/*
 * Leave pages alone whose memory has a policy that the library did not see being set. One mapping
 * has one policy, so where an order has many runs it is asked where the mapping ends.
 */
static uint64_t without_policies(const struct kit *k, const struct ksm_msg_order *m, uint64_t mask,
				 uint8_t *result) NEEDS(as.lock)
{
	uint64_t rest = mask, none_until = 0;
	unsigned int asked = 0;

	for (unsigned int i = 0, j; pageset_next(mask, &i, &j); i = j) {
		const struct as_range *r = as_range_at(order_page(m, i));

		j = (unsigned int)u64_min(j, (r->end - m->addr) / KSM_PAGE_SIZE);
		if ((r->flags & AS_POLICY) || order_page(m, j) <= none_until)
			continue;
		if (!as_has_policy(order_page(m, i))) {
			if (++asked == MANY_RUNS)
				none_until = maps_end(k->maps, order_page(m, i));
			continue;
		}
		rest &= ~pageset_range(i, j);
		memset(result + i, KSM_RES_GONE, j - i);
	}
	return rest;
}

/* The pages of the set that the table still offers. The others are gone. */
static uint64_t still_known(const struct ksm_msg_order *m, uint64_t set, uint8_t *result)
	NEEDS(as.lock)
{
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		const struct as_range *r = as_range_at(order_page(m, i));

		if (!(set & pageset_bit(i)) || (r && as_offered(r)))
			continue;
		set &= ~pageset_bit(i);
		result[i] = KSM_RES_GONE;
	}
	return set;
}

/*
 * Leave alone what was mapped anew behind the library's back. All stretches are looked at before
 * any joins: a table without room forgets whole ranges, with pages of other stretches.
 */
static uint64_t without_changed(const struct kit *k, const struct ksm_msg_order *m, uint64_t mask,
				uint8_t *result) NEEDS(as.lock)
{
	for (unsigned int i = 0, j; pageset_next(mask, &i, &j); i = j) {
		find(m, mask, i, &j);
		if (changed_look(k, order_page(m, i), order_page(m, j)))
			continue;
		mask = still_known(m, mask, result);
		j = i; /* what was left ends a stretch, so this one is smaller now */
	}
	return mask;
}

void stretches_add(struct stretches *s, const struct ksm_msg_order *m, uint64_t mask,
		   uint8_t *result)
{
	mask = without_policies(s->k, m, mask, result);
	mask = without_changed(s->k, m, mask, result);
	s->of[s->nr++] = (struct order_pages){ .m = m, .result = result, .pages = mask };
}

/* ---- in ---- */

/* Returns 0 or a negative errno: nothing was done. */
static int join(struct stretches *s, struct span at) NEEDS(as.lock)
{
	int r;

	uffd_unregister(s->k->uffd_async, at.start, at.end);
	r = uffd_register(s->k->uffd_sync, at.start, at.end, UFFDIO_REGISTER_MODE_MISSING);
	if (r < 0) {
		uffd_release(s->k, at.start, at.end); /* it may have failed half-way */
		uffd_register(s->k->uffd_async, at.start, at.end, UFFDIO_REGISTER_MODE_WP);
		return r;
	}
	s->joined[s->nr_joined++] = at;
	return 0;
}

/* The pages of the order that lie in `at`. */
static uint64_t pages_in(const struct order_pages *of, struct span at)
{
	struct span part =
		span_clip((struct span){ of->m->addr, order_page(of->m, KSM_ORDER_PAGES) }, at);

	if (span_empty(part))
		return 0;
	return pageset_range((unsigned int)((part.start - of->m->addr) / KSM_PAGE_SIZE),
			     (unsigned int)((part.end - of->m->addr) / KSM_PAGE_SIZE));
}

/* Something in a gap was in the way, or one of the runs is, which gets `err` if it is the only. */
static void join_runs(struct stretches *s, struct order_pages *of, struct span at, int err)
	NEEDS(as.lock)
{
	uint64_t pages = of->pages & pages_in(of, at);

	for (unsigned int i = 0, j; pageset_next(pages, &i, &j); i = j) {
		struct span run = { order_page(of->m, i), order_page(of->m, j) };
		int r = run.start == at.start && run.end == at.end ? err : join(s, run);

		if (!r)
			continue;
		memset(of->result + i, (int)order_result(r), j - i);
		of->pages &= ~pageset_range(i, j);
	}
}

/* Stretches that follow each other with small gaps, or, if they cannot join, each of their runs. */
static void join_all(struct stretches *s, struct span at) NEEDS(as.lock)
{
	int r = span_empty(at) ? 0 : join(s, at);

	for (unsigned int o = 0; r && o < s->nr; o++)
		join_runs(s, &s->of[o], at, r);
}

/* May one call be for both? They are neighbours, in one range, and the gap is as in find(). */
static bool continues(struct span at, uint64_t start, uint64_t end) NEEDS(as.lock)
{
	if (span_empty(at) || start - at.end > MAX_GAP * KSM_PAGE_SIZE ||
	    as_range_at(at.start)->end < end)
		return false;
	for (uint64_t gap = at.end; gap < start; gap += KSM_PAGE_SIZE)
		if (as_frame_bit(gap))
			return false;
	return true;
}

/* The stretches of an order, the first of which may continue `at`. Returns the last one. */
static struct span join_order(struct stretches *s, struct order_pages *of, struct span at)
	NEEDS(as.lock)
{
	for (unsigned int i = 0, j; pageset_next(of->pages, &i, &j); i = j) {
		uint64_t start = order_page(of->m, i);

		find(of->m, of->pages, i, &j);
		of->first |= pageset_bit(i);
		if (!continues(at, start, order_page(of->m, j))) {
			join_all(s, at);
			at.start = start;
		}
		at.end = order_page(of->m, j);
	}
	return at;
}

void stretches_join(struct stretches *s)
{
	struct span at = { 0, 0 };

	/* A look for one order may have changed what the table knows of another. */
	for (unsigned int o = 0; (as.nr_events || as.overflow) && o < s->nr; o++)
		s->of[o].pages = still_known(s->of[o].m, s->of[o].pages, s->of[o].result);
	for (unsigned int o = 0; o < s->nr; o++)
		at = join_order(s, &s->of[o], at);
	join_all(s, at);
}

/* ---- out ---- */

static bool is_mapped(const struct stretches *s, struct span at)
{
	uint64_t mapped = 0;

	for (unsigned int o = 0; o < s->nr; o++)
		mapped += (uint64_t)__builtin_popcountll(s->of[o].mapped & pages_in(&s->of[o], at));
	return mapped == span_len(at) / KSM_PAGE_SIZE;
}

void stretches_leave(const struct stretches *s)
{
	if (!s->nr_joined)
		return;
	for (unsigned int i = 0; i < s->nr_joined; i++)
		if (!is_mapped(s, s->joined[i]))
			uffd_release(s->k, s->joined[i].start, s->joined[i].end);
	/* Those that waited where frames are now; and see uffd_release(). */
	uffd_wake(s->k->uffd_sync, s->joined[0].start, s->joined[s->nr_joined - 1].end);
}

void stretches_track(const struct stretches *s)
{
	uint64_t start, end;

	if (!s->nr_joined)
		return;
	start = s->joined[0].start;
	end = s->joined[s->nr_joined - 1].end;
	/* One call for all: what lies between them is offered, too, and mostly tracked already. */
	if (as_range_at(start)->end >= end &&
	    !uffd_register(s->k->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP))
		return;
	for (unsigned int i = 0; i < s->nr_joined; i++)
		uffd_register(s->k->uffd_async, s->joined[i].start, s->joined[i].end,
			      UFFDIO_REGISTER_MODE_WP);
}

/* SPDX-License-Identifier: MIT */
/*
 * stretches.c - see stretches.h.
 *
 * A stretch may have small gaps of pages that are not in the order. Leaving and joining
 * userfaultfds splits and joins mappings and costs 12 us a stretch. Pages in the gap are taken for
 * written afterwards and hashed again, which costs 2 us each.
 *
 * All stretches of an order join before the first page is out, and leave when the last is back. So
 * what can be done once is paid once: where an order has eight single pages it takes 28 us a page,
 * and 43 stretch by stretch. A stretch whose pages are in place makes nobody wait.
 */
#include "client/stretches.h"

#include <string.h>

#include "base/span.h"
#include "client/as_advice.h"
#include "client/as_frames.h"
#include "client/as_ranges.h"
#include "client/changed.h"
#include "client/pageset.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

#define MAX_GAP 4u /* pages; see above */

bool stretches_next(const struct stretches *s, uint64_t set, unsigned int *from, unsigned int *to)
{
	unsigned int next, end;

	if (!pageset_next(set, from, to))
		return false;
	next = *from + 1;
	if (pageset_next(s->first, &next, &end) && next < *to)
		*to = next;
	return true;
}

/* ---- in ---- */

/* Returns 0 or a negative errno: nothing was done. */
static int join(struct stretches *s, unsigned int from, unsigned int to) NEEDS(as.lock)
{
	uint64_t start = order_page(s->m, from), end = order_page(s->m, to);
	int r;

	uffd_unregister(s->k->uffd_async, start, end);
	r = uffd_register(s->k->uffd_sync, start, end, UFFDIO_REGISTER_MODE_MISSING);
	if (r < 0) {
		uffd_release(s->k, start, end); /* it may have failed half-way */
		uffd_register(s->k->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP);
		return r;
	}
	s->joined |= pageset_range(from, to);
	s->first |= pageset_bit(from);
	return 0;
}

/* The pages of one stretch, [from, to), or, if it cannot join as a whole, each of its runs. */
static void join_pages(struct stretches *s, uint64_t pages, unsigned int from, unsigned int to,
		       uint8_t *result) NEEDS(as.lock)
{
	int r = join(s, from, to);

	for (unsigned int i = from, j; r && pageset_next(pages, &i, &j); i = j) {
		/* Something in a gap was in the way, or this run is. */
		int one = pages == pageset_range(from, to) ? r : join(s, i, j);

		if (!one)
			continue;
		memset(result + i, (int)order_result(one), j - i);
		pages &= ~pageset_range(i, j);
	}
	s->pages |= pages;
}

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

/* Leave pages alone whose memory has a policy that the library did not see being set. */
static uint64_t without_policies(const struct ksm_msg_order *m, uint64_t mask, uint8_t *result)
	NEEDS(as.lock)
{
	uint64_t rest = mask;

	for (unsigned int i = 0, j; pageset_next(mask, &i, &j); i = j) {
		const struct as_range *r = as_range_at(order_page(m, i));

		j = (unsigned int)u64_min(j, (r->end - m->addr) / KSM_PAGE_SIZE);
		if ((r->flags & AS_POLICY) || !as_has_policy(order_page(m, i)))
			continue;
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

void stretches_join(struct stretches *s, const struct kit *k, const struct ksm_msg_order *m,
		    uint64_t mask, uint8_t *result)
{
	*s = (struct stretches){ .k = k, .m = m };
	mask = without_policies(m, mask, result);
	mask = without_changed(k, m, mask, result);
	for (unsigned int i = 0, j; pageset_next(mask, &i, &j); i = j) {
		uint64_t pages = find(m, mask, i, &j);

		join_pages(s, pages, i, j, result);
	}
}

/* ---- out ---- */

void stretches_wake(const struct stretches *s, unsigned int from, unsigned int to)
{
	uffd_wake(s->k->uffd_sync, order_page(s->m, from), order_page(s->m, to));
}

/* From the first page of the first stretch to the last page of the last one. */
static void bounds(const struct stretches *s, unsigned int *from, unsigned int *to)
{
	*from = (unsigned int)__builtin_ctzll(s->joined);
	*to = KSM_ORDER_PAGES - (unsigned int)__builtin_clzll(s->joined);
}

void stretches_leave(const struct stretches *s, uint64_t mapped)
{
	unsigned int from, to;

	for (unsigned int i = 0, j; stretches_next(s, s->joined, &i, &j); i = j)
		if (pageset_range(i, j) & ~mapped)
			uffd_release(s->k, order_page(s->m, i), order_page(s->m, j));
	/* Those that waited where frames are now; and see uffd_release(). */
	bounds(s, &from, &to);
	stretches_wake(s, from, to);
}

void stretches_track(const struct stretches *s)
{
	unsigned int from, to;
	uint64_t start, end;

	bounds(s, &from, &to);
	start = order_page(s->m, from);
	end = order_page(s->m, to);
	/* One call for all: what lies between them is offered, too, and mostly tracked already. */
	if (as_range_at(start)->end >= end &&
	    !uffd_register(s->k->uffd_async, start, end, UFFDIO_REGISTER_MODE_WP))
		return;
	for (unsigned int i = 0, j; stretches_next(s, s->joined, &i, &j); i = j)
		uffd_register(s->k->uffd_async, order_page(s->m, i), order_page(s->m, j),
			      UFFDIO_REGISTER_MODE_WP);
}

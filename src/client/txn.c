/* SPDX-License-Identifier: MIT */
/*
 * txn.c - carry out orders: which pages may be replaced now, and how.
 *
 * Pages of private memory are replaced by replace.c, which moves them out of the way and compares
 * them. Pages that lie in a mapping of frames already cannot be moved: inplace.c. While the agent
 * holds the lock of as.h no wrapper changes the address space. So an order that is up to date when
 * it begins stays so.
 *
 * Orders that wait, for blocks that follow each other, are carried out together, because what an
 * order costs by itself is half of the agent's time. As many as a program thread may have to wait
 * for: their weight is bounded, and who waits for the lock waits for one of them.
 */
#include "client/txn.h"

#include <string.h>

#include "client/as.h"
#include "client/as_frames.h"
#include "client/as_ranges.h"
#include "client/exclusive.h"
#include "client/inplace.h"
#include "client/leaving.h"
#include "client/pageset.h"
#include "client/replace.h"
#include "client/staging.h"
#include "client/sysc.h"

#define LEAVING_MS 2       /* for threads that are about to end; the daemon asks again */
#define UNSHARED_ORDERS 16 /* without a shared page; then they are not looked for beforehand */
#define WEIGHT_FRAMES 4u   /* of a run of frames; a run of zeros has 1, some 3 us */

/* Which pages of the order may be replaced now; *in_frames: those in frame mappings already. */
static uint64_t eligible(const struct ksm_msg_order *m, uint64_t *in_frames) NEEDS(as.lock)
{
	uint64_t mask = 0;
	const struct as_range *r = as_first(m->addr);

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		uint64_t a = order_page(m, i);

		if (m->frame[i] == KSM_FRAME_NONE)
			continue;
		while (r && r->end <= a)
			r = as_next(r);
		if (!r)
			break;
		if (r->start <= a && as_offered(r) && r->prot == (PROT_READ | PROT_WRITE)) {
			mask |= pageset_bit(i);
			if (as_frame_bit(a))
				*in_frames |= pageset_bit(i);
		}
	}
	return mask;
}

static uint64_t pages_with(const uint8_t *result, enum ksm_res res)
{
	uint64_t set = 0;

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		if (result[i] == res)
			set |= pageset_bit(i);
	return set;
}

/* Of the pages of a set, which are in the result, those that other processes map are no orders. */
static uint64_t leave_shared(const struct kit *k, const struct ksm_msg_order *m, uint64_t set,
			     uint8_t *result) NEEDS(as.lock)
{
	uint64_t shared = exclusive_shared(k, m, set);
	uint64_t zeros = exclusive_zeros(k, m, shared);

	for (unsigned int i = 0, j; pageset_next(shared, &i, &j); i = j)
		memset(result + i, KSM_RES_FORK_SHARED, j - i);
	for (unsigned int i = 0, j; pageset_next(zeros, &i, &j); i = j)
		memset(result + i, KSM_RES_GONE, j - i);
	return shared;
}

/* The kernel refused pages of an order: those that are this process's alone get another try. */
static uint64_t try_again(struct kit *k, const struct ksm_msg_order *m, uint64_t refused,
			  struct ksm_msg_order_done *done) NEEDS(as.lock)
{
	uint64_t shared = leave_shared(k, m, refused, done->result);

	refused = exclusive_make(k, m, refused & ~shared);
	if (refused)
		replace_private(k, m, 1, &refused, done);
	return shared;
}

static void count_shared(struct kit *k, uint64_t shared)
{
	if (shared)
		k->unshared_orders = 0;
	else if (k->unshared_orders < UNSHARED_ORDERS)
		k->unshared_orders++;
}

/*
 * The same, without those that other processes map; some that are refused get another try. The
 * kernel refuses shared pages in any case. So where the last orders had none the page map, which
 * costs as much as five pages' moves, is asked only of what was refused.
 */
static unsigned int execute_private(struct kit *k, const struct ksm_msg_order *m, unsigned int nr,
				    uint64_t *mask, struct ksm_msg_order_done *done) NEEDS(as.lock)
{
	uint64_t shared[STRETCHES_ORDERS] = { 0 }, any = 0;

	if (atomic_load(&as.nr_forks))
		k->unshared_orders = 0;
	for (unsigned int i = 0; i < nr; i++) {
		if (mask[i] && k->unshared_orders < UNSHARED_ORDERS)
			shared[i] = leave_shared(k, &m[i], mask[i], done[i].result);
		mask[i] &= ~shared[i];
		any |= mask[i];
	}
	if (any && staging_open(k)) {
		nr = replace_private(k, m, nr, mask, done);
		for (unsigned int i = 0; i < nr; i++) {
			uint64_t refused = mask[i] & pages_with(done[i].result, KSM_RES_BUSY);

			if (refused)
				shared[i] |= try_again(k, &m[i], refused, &done[i]);
		}
		staging_close(k);
		for (unsigned int i = 0; i < nr; i++)
			exclusive_arm(k, &m[i], done[i].result);
	}
	for (unsigned int i = 0; i < nr; i++)
		if (mask[i] | shared[i])
			count_shared(k, shared[i]);
	return nr;
}

/*
 * Carry out orders that are up to date, in order of their addresses. Every page of them is
 * KSM_RES_GONE so far. Returns how many of them are carried out, one at least.
 */
static unsigned int execute(struct kit *k, const struct ksm_msg_order *m, unsigned int nr,
			    struct ksm_msg_order_done *done) NEEDS(as.lock)
{
	uint64_t in_frames[STRETCHES_ORDERS] = { 0 }, mask[STRETCHES_ORDERS];

	for (unsigned int i = 0; i < nr; i++)
		mask[i] = eligible(&m[i], &in_frames[i]) & ~in_frames[i];
	nr = execute_private(k, m, nr, mask, done);
	for (unsigned int i = 0; i < nr;)
		i += inplace_execute(k, &m[i], nr - i, &in_frames[i], &done[i]);
	return nr;
}

unsigned int txn_weight(const struct ksm_msg_order *m)
{
	unsigned int weight = 0;

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		uint32_t f = m->frame[i], last = i ? m->frame[i - 1] : KSM_FRAME_NONE;

		if (f == KSM_FRAME_ZERO)
			weight += last != f;
		else if (f != KSM_FRAME_NONE)
			weight += last == KSM_FRAME_NONE || f != last + 1 ? WEIGHT_FRAMES : 0;
	}
	return weight;
}

static void begin_results(const struct ksm_msg_order *m, enum ksm_res res, uint8_t *result)
{
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
		result[i] = m->frame[i] == KSM_FRAME_NONE ? KSM_RES_NONE : res;
}

/* Returns how many of the orders have their results, one at least. */
static unsigned int execute_some(struct kit *k, const struct ksm_msg_order *m, unsigned int nr,
				 uint64_t newest, struct ksm_msg_order_done *done)
{
	bool stale = !leaving_lock(LEAVING_MS) || as.nr_events || as.overflow || m->seq != newest;
	unsigned int n = 1;

	while (!stale && n < nr && m[n].seq == newest)
		n++;
	for (unsigned int i = 0; i < n; i++)
		begin_results(&m[i], stale ? KSM_RES_STALE : KSM_RES_GONE, done[i].result);
	if (!stale)
		n = execute(k, m, n, done);
	as_unlock();
	return n;
}

void txn_execute(struct kit *k, const struct ksm_msg_order *m, unsigned int nr, uint64_t newest,
		 struct ksm_msg_order_done *done)
{
	for (unsigned int i = 0; i < nr;) {
		i += execute_some(k, m + i, nr - i, newest, done + i);
		/* Now, with no page in hand, and not in the middle of the next order: threads that
		 * wait for its pages would wait for the length of another program's time slice. */
		sysc0(SYS_sched_yield);
	}
}

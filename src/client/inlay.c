/* SPDX-License-Identifier: MIT */
/*
 * inlay.c - see inlay.h.
 *
 * Where frames alternate with other pages each frame would need a mapping, and each page between
 * them another. But a private mapping of frames can hold private pages as well, as those that were
 * written after a merge. UFFDIO_COPY makes such a page without a look at the frame behind it, so
 * the arena gets none there. The mapping must be registered for missing pages for that, and a
 * thread of the program that came to it before it is whole would see whatever the arena has in that
 * place. So it is made aside (the sheet of aside.h), and moved into place when it is whole.
 *
 * Safe because the page is in the staging area meanwhile, where it cannot change, and has no pins:
 * UFFDIO_MOVE has tested that. Afterwards there is no such test for it any more. Such a page is
 * merged later only in a process without means of pinning (hold.h), so a process that has some is
 * left as it is.
 *
 * To everything else an inlaid page is what a page is that was written after a merge: the frame bit
 * says that it lies in a mapping of frames, and the wrappers deal with it as with those.
 */
#include "client/inlay.h"

#include <errno.h>

#include "client/hold.h"
#include "client/pageset.h"
#include "client/sysc.h"
#include "client/uffd.h"

#define LOOK_MS 1000    /* a look costs some 3 us for each descriptor of the process */
#define COPY_TRIES 1000 /* while forks are being announced */

void inlay_look(struct kit *k, const struct ksm_msg_order *m)
{
	uint64_t now;
	unsigned int i = 0;

	while (i < KSM_ORDER_PAGES && m->frame[i] != KSM_FRAME_INLAY)
		i++;
	if (i == KSM_ORDER_PAGES)
		return;
	now = kit_now_ms();
	if (now < k->inlay_ms)
		return;
	k->inlay_ms = now + LOOK_MS;
	k->may_inlay = !hold_may_be_pinned(k);
}

bool inlay_may(const struct kit *k)
{
	return k->may_inlay;
}

/* A run of pages that lie side by side. */
static bool copy_run(const struct kit *k, uint64_t at, unsigned int from, unsigned int to)
{
	for (int tries = 0; tries < COPY_TRIES; tries++) {
		struct uffdio_copy c = {
			.dst = at + (uint64_t)from * KSM_PAGE_SIZE,
			.src = (uintptr_t)k->staging + (uint64_t)from * KSM_PAGE_SIZE,
			.len = (uint64_t)(to - from) * KSM_PAGE_SIZE,
			.mode = UFFDIO_COPY_MODE_DONTWAKE,
		};
		long r = sysc3(SYS_ioctl, k->uffd_sync, UFFDIO_COPY, &c);

		if (!r)
			return true;
		if (r != -EAGAIN)
			return false;
		if (c.copy > 0)
			from += (unsigned int)((uint64_t)c.copy / KSM_PAGE_SIZE);
		if (from == to)
			return true;
		/* Their pages are not these: they are served when the order is done. */
		sysc0(SYS_sched_yield);
	}
	return false;
}

bool inlay_copy(const struct kit *k, uint64_t at, uint64_t set)
{
	for (unsigned int i = 0, j; pageset_next(set, &i, &j); i = j)
		if (!copy_run(k, at, i, j))
			return false;
	return true;
}

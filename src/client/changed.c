/* SPDX-License-Identifier: MIT */
/*
 * changed.c - see changed.h.
 *
 * A program can map memory by a system call of its own, in assembler, of which nobody hears. The
 * agent would then replace pages of a mapping of which it knows nothing: stores to a shared file
 * would be lost, and a child would see what is to be wiped in it.
 *
 * Each mapping that the library knows is registered with the userfaultfd that tracks changes, and
 * the kernel drops that with the mapping. So a mapping that is not registered is suspected, which
 * costs one call for the pages of an order that lie side by side (1.3 us; to merge a page that
 * stands alone takes 28). Only then is the kernel asked what stands there. Frames are known by
 * their file, and stay what they are; any other mapping that is not registered is not ours.
 *
 * What it does not see: memory that is not mapped at all, where a transaction finds no pages; and
 * protection, locks and advice that changed without a new mapping. Of these the kernel refuses to
 * move a page whose protection or lock is another than the staging area's.
 */
#include "client/changed.h"

#include <errno.h>

#include "base/span.h"
#include "client/as_frames.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

static bool is_tracked(const struct kit *k, struct span s)
{
	struct kabi_page_region none;
	struct kabi_pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = KABI_PM_SCAN_CHECK_WPASYNC,
		.start = s.start,
		.end = s.end,
		.vec = (uint64_t)(uintptr_t)&none,
		.vec_len = 1,
		/* No page is both. */
		.category_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_SWAPPED,
		.return_mask = KABI_PAGE_IS_PRESENT,
	};

	return sysc3(SYS_ioctl, k->pagemap, KABI_PAGEMAP_SCAN, &arg) != -EPERM;
}

struct look {
	const struct kit *k;
	struct span rest; /* not looked at so far */
	bool changed;
};

/* Somebody else's mapping, of which is not known what it is; or none. */
static void leave(struct look *l, struct span s, bool mapped) NEEDS(as.lock)
{
	if (span_empty(s))
		return;
	l->changed = true;
	as_frames_clear(s.start, s.end);
	as_clear(s.start, s.end);
	if (mapped &&
	    !as_set(s.start, s.end, PROT_READ | PROT_WRITE, AS_UNSEEN, 1u << KSM_LEFT_SHARED))
		atomic_store_explicit(&as.unseen, true, memory_order_relaxed);
	as_event(KSM_MSG_DEL, s.start, s.end);
}

static void look_at(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	struct look *l = arg;
	struct span part = span_clip((struct span){ e->start, e->end }, l->rest);

	if (span_empty(part))
		return;
	leave(l, (struct span){ l->rest.start, part.start }, false);
	if (!maps_is_arena(e) && !is_tracked(l->k, part))
		leave(l, part, true);
	l->rest.start = part.end;
}

bool changed_look(const struct kit *k, uint64_t start, uint64_t end)
{
	return is_tracked(k, (struct span){ start, end }) || changed_ask(k, start, end);
}

bool changed_ask(const struct kit *k, uint64_t start, uint64_t end)
{
	struct look l = { .k = k, .rest = { start, end } };

	if (maps_walk_in(k->maps, start, end, look_at, &l) >= 0)
		leave(&l, l.rest, false);
	return !l.changed;
}

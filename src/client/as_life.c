/* SPDX-License-Identifier: MIT */
/*
 * as_life.c - the tables are made once; a child inherits what is true there, too.
 *
 * A child's memory is its parent's, so ranges and frame bits hold for it. MADV_DONTFORK is the
 * exception: the child has no memory there, and does not know what it will map there.
 */
#include "client/as_life.h"

#include <errno.h>
#include <sys/mman.h>

#include "client/as_frames.h"
#include "client/as_ranges.h"
#include "client/maps.h"
#include "client/sysc.h"

int as_init(void)
{
	if (!as.cookie) {
		void *page = as_map_table(KSM_PAGE_SIZE);

		if (page && sysc3(SYS_madvise, page, KSM_PAGE_SIZE, MADV_WIPEONFORK) < 0) {
			sysc2(SYS_munmap, page, KSM_PAGE_SIZE);
			page = NULL;
		}
		as.cookie = page;
	}
	if (as_ranges_init() < 0 || as_frames_init() < 0 || !as.cookie)
		return -ENOMEM;
	atomic_store_explicit(as.cookie, 1, memory_order_relaxed);
	return 0;
}

static void recover_frame(void *arg, const struct maps_entry *e) UNCHECKED_LOCKING
{
	(void)arg;
	if (maps_is_arena(e))
		as_frames_set(e->start, e->end);
}

void as_reset_child(void) UNCHECKED_LOCKING
{
	uint64_t at = 0;

	atomic_store(&as.lock.word, AS_LOCK_FREE);
	atomic_store(&as.waiting, 0);
	as.copied = NULL; /* the parent's; a page of it stays mapped */
	as.nr_events = 0;
	as.overflow = false;
	as.nr_leaving = 0;
	atomic_store(&as.nr_forks, 0);
	if (as.editing) {
		as_ranges_empty();
		maps_walk(0, UINT64_MAX, recover_frame, NULL);
	}
	/* The thread that was withdrawing a range does not exist here. */
	for (struct as_range *r = as_first(0); r; r = as_first(at)) {
		at = r->end;
		r->flags &= (uint16_t)~AS_UNSHARING;
		if (r->flags & AS_DONTFORK) {
			as_frames_clear(r->start, at);
			as_clear(r->start, at);
		}
	}
	if (as.cookie) /* as_init() may have failed */
		atomic_store_explicit(as.cookie, 1, memory_order_relaxed);
}

/* Called under the lock, by way of a pointer that the analysis does not follow. */
static void clear_object(void *arg, const void *p, size_t len) UNCHECKED_LOCKING
{
	(void)arg;
	if (p)
		as_clear(page_down((uintptr_t)p), page_up((uintptr_t)p + len));
}

void as_own(void (*fn)(void *arg, const void *p, size_t len), void *arg)
{
	fn(arg, &as, sizeof(as));
	as_ranges_own(fn, arg);
	fn(arg, as.cookie, KSM_PAGE_SIZE);
	fn(arg, as.copied, KSM_PAGE_SIZE);
	fn(arg, &maps_scratch, sizeof(maps_scratch));
	as_frames_own(fn, arg);
}

void as_clear_own(void)
{
	as_own(clear_object, NULL);
}

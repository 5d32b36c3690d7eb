/* SPDX-License-Identifier: MIT */
/*
 * ops_map.c - mmap, munmap, mprotect and brk.
 *
 * The kernel does these alike on anonymous memory and on frames, so each wrapper lets it and makes
 * the tables follow, under the lock. The hard case is mprotect that fails half-way: fresh memory
 * that the library maps later must have the protection that the program has there.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/agent.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "client/mailbox.h"
#include "client/maps.h"
#include "client/ops.h"
#include "client/ops_process.h"
#include "client/sysc.h"

/* The reasons to leave a mapping out that its flags give. */
static uint16_t left_out_by_flags(int flags) NEEDS(as.lock)
{
	uint16_t why = as.exclude_all ? 1u << KSM_LEFT_MLOCKED : 0;

	if (flags & MAP_LOCKED)
		why |= 1u << KSM_LEFT_MLOCKED;
	if (flags & MAP_HUGETLB)
		why |= 1u << KSM_LEFT_HUGETLB;
	if (flags & (MAP_STACK | MAP_GROWSDOWN))
		why |= 1u << KSM_LEFT_STACK;
	return why;
}

/*
 * Under PR_SET_MEMORY_MERGE, which a child inherits, every mapping is asked to be merged. For small
 * ones, which a child makes on its way to exec, it may wait until the agent connects by itself.
 */
#define ASKED_MIN_BYTES (64u << 10)

long ksmc_mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t off)
{
	bool fixed = flags & MAP_FIXED;
	bool anon = (flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE;
	struct as_guard g;
	bool offer = false, asked = false;
	uint64_t end;
	long r;

	if (!anon && !(fixed && atomic_load_explicit(&as.active, memory_order_relaxed)))
		return sysc6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, off);
	if (ksmc_init() < 0)
		return -ENOMEM;
	ops_enter(&g);
	r = sysc6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, off);
	if (sysc_failed(r)) {
		as_leave(&g);
		return r;
	}
	end = page_up((uint64_t)r + len);
	ops_forget((uint64_t)r, end);
	if (anon && end <= KSM_ADDR_END) {
		bool policy = as.offer_min_pages &&
			      len >= as.offer_min_pages * (size_t)KSM_PAGE_SIZE;

		asked = as.merge_any && len >= ASKED_MIN_BYTES;
		offer = policy || as.merge_any;
		if (as_set((uint64_t)r, end, (uint8_t)prot, offer ? AS_WANTED : 0,
			   left_out_by_flags(flags)) < 0)
			offer = false;
		if (offer)
			as_event(KSM_MSG_ADD, (uint64_t)r, end);
	}
	ops_leave(&g, offer);
	if (asked)
		mailbox_hasten();
	return r;
}

long ksmc_munmap(void *addr, size_t len)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct as_guard g;
	long r;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed) || end <= start)
		return sysc2(SYS_munmap, addr, len);
	ops_enter(&g);
	r = sysc2(SYS_munmap, addr, len);
	if (!r)
		ops_forget(start, end);
	ops_leave(&g, false);
	return r;
}

static void set_prot(struct as_range *r, long prot)
{
	r->prot = (uint8_t)prot;
}

/* If the table cannot follow, the range is given up: unknown memory is never merged. */
static void set_prot_or_forget(uint64_t start, uint64_t end, int prot) NEEDS(as.lock)
{
	if (as_edit(start, end, set_prot, prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) < 0)
		as_clear(start, end);
}

static void relearn_prot(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	const struct span *s = arg;
	struct span part = span_clip((struct span){ e->start, e->end }, *s);

	set_prot_or_forget(part.start, part.end, e->prot);
}

/* A page for which the kernel has no memory so often is taken to fail for good. */
#define PROTECT_TRIES 100

/*
 * The kernel did a part of the call, and without a descriptor the library cannot see which. So it
 * repeats the call page by page, up to a page that fails again and again.
 */
static void protect_again(uint64_t start, uint64_t end, int prot) NEEDS(as.lock)
{
	int tries = 0;

	while (start < end && tries++ < PROTECT_TRIES) {
		if (sysc3(SYS_mprotect, start, KSM_PAGE_SIZE, prot)) {
			sysc0(SYS_sched_yield);
			continue;
		}
		set_prot_or_forget(start, start + KSM_PAGE_SIZE, prot);
		start += KSM_PAGE_SIZE;
		tries = 0;
	}
}

long ksmc_mprotect(void *addr, size_t len, int prot)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct as_guard g;
	long r;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed) || end <= start)
		return sysc3(SYS_mprotect, addr, len, prot);
	ops_enter(&g);
	r = sysc3(SYS_mprotect, addr, len, prot);
	if (r && start % KSM_PAGE_SIZE == 0 && as_knows(start, end)) {
		if (maps_walk(start, end, relearn_prot, &(struct span){ start, end }) < 0)
			protect_again(start, end, prot);
	} else if (!r) {
		set_prot_or_forget(start, end, prot);
	}
	ops_leave(&g, false);
	return r;
}

long ksmc_brk(void *addr)
{
	struct as_guard g;
	uint64_t was, now;

	if (!addr || !atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc1(SYS_brk, addr);
	ops_enter(&g);
	was = (uint64_t)sysc1(SYS_brk, 0);
	now = (uint64_t)sysc1(SYS_brk, addr);
	if (now < was) {
		ops_forget(page_up(now), page_up(was));
		agent_heap_shrunk(page_up(now));
	}
	ops_leave(&g, false);
	return (long)now;
}

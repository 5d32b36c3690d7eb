/* SPDX-License-Identifier: MIT */
/*
 * as.h - the address space as the library knows it: which memory is offered, and where the agent
 * has put frames.
 *
 * The agent replaces pages with mmap(MAP_FIXED), which destroys whatever stands at the address.
 * So everything that may change a mapping of known memory holds the one lock of this file, the
 * agent for the length of a transaction, a wrapper for the length of its system call. The lock:
 *   - is taken with all signals blocked, so that a handler that calls munmap cannot deadlock;
 *   - is never held while waiting for the daemon;
 *   - while a program thread holds it, no page is missing (pages are missing only inside a
 *     transaction), so touching program memory under it cannot block on the agent.
 *
 * Nothing here uses malloc: under ksm-run the heap itself is offered memory. Tables are private
 * mappings, never offered.
 *
 * A child made by a raw clone(2) inherits this state at any instant, with the lock possibly held by
 * a thread it does not have. A page with MADV_WIPEONFORK tells: where its cookie reads zero the
 * process is such a child (as_is_orphan) and starts afresh. A table caught in the middle of an
 * edit (`editing`) is thrown away and the frame bits are read again from /proc/self/maps.
 */
#ifndef KSM_AS_H
#define KSM_AS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/guard.h"
#include "wire/wire.h"

/* A change the daemon has to be told of, in order. */
struct as_event {
	uint32_t type; /* KSM_MSG_ADD, _DEL, _FORGET; KSM_MSG_ADOPT: the range moved, look it up */
	uint64_t start, end;
};
/* Events come in bursts of one per wrapper call and are coalesced; when the agent is that far
 * behind (a stopped daemon), declaring everything anew is cheaper than a longer queue. */
#define AS_EVENTS 512

/* A futex: 0 free, 1 held, 2 held and waited for, AS_LOCK_VFORK + n: see as_vfork_begin(). */
struct LOCK_TYPE("address space") as_lock {
	_Atomic uint32_t word;
};

struct as_range; /* as_ranges.h */

/* All fields under the lock unless noted. */
struct as {
	struct as_lock lock;
	_Atomic uint32_t *copied; /* shared with children; word n: child n has its copy */
	uint32_t vfork_slot;      /* used last */
	_Atomic uint32_t waiting; /* program threads that want it: the agent lets them go first */
	_Atomic uint32_t *cookie; /* in a MADV_WIPEONFORK page */
	uint32_t editing;
	struct as_range *range;
	size_t nr, cap;       /* cap: entries that fit the mapping */
	uint64_t **frames_l1; /* page bits by GiB of address: "lies in a frame mapping" */
	struct as_event event[AS_EVENTS];
	uint32_t nr_events;
	bool overflow; /* events were lost: declare everything anew */
	bool merge_any, exclude_all;
	_Atomic bool active; /* anything known at all; read without the lock */
	size_t offer_min_pages;
	uint8_t learn; /* enum ksmc_learn: memory that may be offered although it was not mapped here */
	uint64_t nr_frame_pages;
	uint64_t frame_moves; /* counts moves of memory with frames */
};

extern struct as as;

/* Take and release the lock from a program thread. `saved` keeps its signal mask. */
struct as_guard {
	uint64_t sigmask;
};
void as_enter(struct as_guard *g) TAKES(as.lock);
void as_leave(struct as_guard *g) GIVES(as.lock);
/* From the agent, whose signals are blocked anyway. */
void as_agent_lock(void) TAKES(as.lock);
void as_unlock(void) GIVES(as.lock);

/*
 * A clone(2) with CLONE_VFORK but without CLONE_VM copies the address space, for which the lock is needed,
 * and then does not return before the child is gone. So the child, when it runs, says by a word of
 * shared memory that the copy is made, and whoever waits for the lock takes it over. The parent
 * gives up what nobody took. Slot: by which as_vfork_end() and as_vfork_copied() know the call; 0 when
 * there is no shared memory, and the lock is held throughout.
 */
#define AS_LOCK_VFORK 4u
#define AS_VFORK_SLOTS (KSM_PAGE_SIZE / sizeof(uint32_t))
uint32_t as_vfork_begin(void) NEEDS(as.lock);    /* lock held */
void as_vfork_copied(uint32_t slot);             /* in the child, first */
void as_vfork_end(uint32_t slot) GIVES(as.lock); /* in the parent: the lock is not held any more */

/* Is this a forked child that has not been told so by as_reset_child()? */
static inline bool as_is_orphan(void)
{
	return as.cookie && !atomic_load_explicit(as.cookie, memory_order_relaxed);
}

/* Memory of the library's own for a table: zeros, never offered. NULL when there is none. */
void *as_map_table(size_t len);

#endif

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

/* What is known of a range of memory mapped through the library or offered by madvise. */
enum {
	AS_WANTED = 1 << 0,    /* offered for merging */
	AS_ADVISED = 1 << 1,   /* by an explicit MADV_MERGEABLE, not by a policy */
	AS_UNSHARING = 1 << 2, /* being withdrawn: nothing may be merged meanwhile */
};
struct as_range {
	uint64_t start, end; /* page aligned, start < end; sorted, disjoint */
	uint8_t prot;        /* PROT_* */
	uint8_t flags;       /* AS_* */
	uint16_t left_out;   /* bit set of 1 << enum ksm_left_out */
};

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

/* First use of the library, and again in a forked child (keeps ranges and frame bits). Returns 0
 * or -ENOMEM. Context: no other thread uses `as` yet. */
int as_init(void);
/* In a forked child: forget the lock, the queue, the agent. Context: single thread so far. */
void as_reset_child(void);

/* Index of the first range with end > addr (== nr when none). Lock held. */
size_t as_find(uint64_t addr) NEEDS(as.lock);
/* Replace what is known of [start, end). Returns 0 or -ENOMEM (nothing changed). Lock held. */
int as_set(uint64_t start, uint64_t end, uint8_t prot, uint8_t flags, uint16_t left_out)
	NEEDS(as.lock);
void as_clear(uint64_t start, uint64_t end) NEEDS(as.lock);
/* The same for what is not known of it yet. Returns 0 or -ENOMEM (a part was done). Lock held. */
int as_fill(uint64_t start, uint64_t end, uint8_t prot, uint8_t flags, uint16_t left_out)
	NEEDS(as.lock);
/* Room for so many more entries, so that edits that add no more cannot fail. 0 or -ENOMEM. */
int as_reserve(size_t more) NEEDS(as.lock);
/* Nothing is known of the library's own tables, whatever ranges a program names. Lock held. */
void as_clear_own(void) NEEDS(as.lock);
/* Apply fn to each known part of [start, end), then coalesce. Returns 0 or -ENOMEM. Lock held. */
int as_edit(uint64_t start, uint64_t end, void (*fn)(struct as_range *r, long arg), long arg)
	NEEDS(as.lock);
/* May pages of this range be merged? */
static inline bool as_offered(const struct as_range *r)
{
	return (r->flags & (AS_WANTED | AS_UNSHARING)) == AS_WANTED && !r->left_out;
}
/* Is this a forked child that has not been told so by as_reset_child()? */
static inline bool as_is_orphan(void)
{
	return as.cookie && !atomic_load_explicit(as.cookie, memory_order_relaxed);
}
/* Any part of [start, end) known? All of it? Lock held. */
bool as_knows(uint64_t start, uint64_t end) NEEDS(as.lock);
bool as_covers(uint64_t start, uint64_t end) NEEDS(as.lock);

/* Frame bits. Lock held. as_frames_set returns 0 or -ENOMEM. */
bool as_frame_bit(uint64_t addr) NEEDS(as.lock);
int as_frames_set(uint64_t start, uint64_t end) NEEDS(as.lock);
/* Room for the bits of [start, end): after that as_frames_set() cannot fail. 0 or -ENOMEM. */
int as_frames_reserve(uint64_t start, uint64_t end) NEEDS(as.lock);
void as_frames_clear(uint64_t start, uint64_t end) NEEDS(as.lock);
/* What the kernel was told of memory that is left alone, for a mapping that takes its place. No lock. */
void as_repeat_advice(uint64_t start, uint64_t end, uint16_t left_out);
/* Next run of pages with the bit set in [*start, end); returns false when there is none. */
bool as_frames_next(uint64_t *start, uint64_t *run_end, uint64_t end) NEEDS(as.lock);

/* Tell the agent. Lock held; call mailbox_poke() after releasing it. */
void as_event(uint32_t type, uint64_t start, uint64_t end) NEEDS(as.lock);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * as.h - the address space as the library knows it: the tables' one lock, and the state behind it.
 *
 * The agent replaces pages with mmap(MAP_FIXED), which destroys whatever stands at the address.
 * So everything that may change a mapping of known memory holds the lock of this file: the agent
 * for the length of a transaction, a wrapper for the length of its system call. The guarantees:
 *
 *  (a) A thread takes the lock with all signals blocked, so a handler that calls munmap cannot
 *      deadlock.
 *  (b) No thread waits for the daemon while it holds the lock.
 *  (c) No page is missing while a program thread holds the lock: pages are missing only inside a
 *      transaction. So a thread that touches program memory under it cannot block on the agent.
 *  (d) Nothing here uses malloc, because under ksm-run the heap itself is offered memory. Tables
 *      are private mappings that are never offered (as_clear_own()).
 *  (e) A child made by a raw clone(2) inherits this state at any instant, and the lock perhaps from
 *      a thread that it does not have. A page with MADV_WIPEONFORK tells: where its cookie reads
 *      zero the process is such a child (as_is_orphan()) and starts over.
 *  (f) A child never uses a half-edited table: where `editing` is set it throws the ranges away
 *      and reads the frame bits again from /proc/self/maps.
 *
 * The tables have a room each: as_ranges.h what is known of memory, as_frames.h where frames
 * stand, as_queue.h what the daemon has yet to hear, as_domain.h whom to share with. as_life.h
 * makes them and hands them to children.
 */
#ifndef KSM_AS_H
#define KSM_AS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/guard.h"
#include "wire/wire.h"

/* A change that the agent tells the daemon, in order. */
struct as_event {
	uint32_t type; /* KSM_MSG_ADD, _DEL, _FORGET; _ADOPT: the range moved, look it up */
	uint64_t start, end;
};
/* Events come in bursts of one per wrapper call, and neighbours coalesce. When the agent is this
 * far behind (a stopped daemon), declaring everything again is cheaper than a longer queue. */
#define AS_EVENTS 512

/*
 * A futex. From AS_LOCK_VFORK on its word says that the holder waits for a child, and with which
 * ticket (as_vfork_begin()).
 */
enum { AS_LOCK_FREE, AS_LOCK_HELD, AS_LOCK_WAITED, AS_LOCK_VFORK = 4 };
struct LOCK_TYPE("address space") as_lock {
	_Atomic uint32_t word;
};

struct as_leaf; /* as_ranges.c */

/*
 * Where the table of ranges lies: as_ranges.c says what holds of it. Of two kinds of numbers that
 * run from 0, places and leaves, slot[] tells the one of the other.
 */
struct as_slot {
	uint32_t leaf;  /* at this place */
	uint32_t place; /* of this leaf */
};
struct as_table {
	struct as_leaf *leaf;
	struct as_slot *slot;
	uint32_t nr, cap;       /* leaves in use; for how many there is room */
	uint32_t unused, begun; /* leaves that were used; from the second on none was */
};

/* What may be learned: enum ksmc_learn. */
enum { AS_LEARN_ALL, AS_LEARN_HEAP, AS_LEARN_NONE };

/* Threads of the program that may end at the same time: leaving.h. */
#define AS_LEAVING 256

/* NUMA policies that ranges have: as_advice.h. */
#define AS_POLICIES 32
#define AS_POLICY_NODES 1024 /* no kernel has more: mm/Kconfig, at most 10 bits */
struct as_policy {
	int64_t mode; /* MPOL_*, with its flags */
	uint64_t nodes[AS_POLICY_NODES / 64];
};

/* Names that ranges have: as_names.h. */
#define AS_NAMES 254
#define AS_NAMELESS 255 /* the number of a name that is not kept */
#define AS_NAME_SIZE 80 /* with the NUL: prctl(2) */

/*
 * The lock covers every field, except where a field says otherwise. Invariants, outside of edits:
 * nr is the number of ranges in the table; nr_frame_pages is the number of frame bits set;
 * nr_events <= AS_EVENTS, and `overflow` says that some did not fit.
 */
struct as {
	struct as_lock lock;
	_Atomic uint32_t *copied; /* shared with children; word n: ticket n's child has its copy */
	uint32_t vfork_ticket;    /* the ticket used last */
	_Atomic uint32_t waiting; /* program threads; the agent lets them take the lock first */
	_Atomic uint32_t *cookie; /* in a MADV_WIPEONFORK page */
	uint32_t editing;
	struct as_table ranges;
	size_t nr;            /* ranges */
	uint64_t **frames_l1; /* page bits by GiB of address: "lies in a frame mapping" */
	struct as_event event[AS_EVENTS];
	uint32_t nr_events;
	bool overflow;          /* events were lost: the agent declares everything again */
	_Atomic bool merge_any; /* written under the lock, read also without */
	bool exclude_all;
	_Atomic bool active;   /* anything is known at all; read without the lock */
	_Atomic bool given_up; /* for good, with nothing known: ksmc_give_up(); without the lock */
	size_t offer_min_pages;
	uint8_t learn;       /* AS_LEARN_*: what may be offered although it was not mapped here */
	_Atomic bool unseen; /* there are ranges with AS_UNSEEN, or were; read without the lock */
	bool hide_frames;    /* core dumps must not have what stands on frames: dumps.c */
	bool gave_zeros;     /* pages of zeros went for an order, once */
	uint64_t withdrawn_start, withdrawn_end; /* holds what ops_withdraw.c left to the agent */
	uint64_t nr_frame_pages;
	uint64_t frame_moves;        /* counts moves of memory with frames */
	char domain[KSM_LABEL_SIZE]; /* that the process asks for: as_domain.h */
	bool domain_known;           /* somebody has said which */
	_Atomic uint32_t domain_nr;  /* by 2 higher after a change; read without the lock */
	_Atomic uint32_t nr_forks;   /* the daemon has yet to hear of; without the lock */
	_Atomic uint32_t nr_leaving; /* read also without the lock */
	int32_t leaving[AS_LEAVING]; /* their thread IDs */
	struct as_policy policy[AS_POLICIES];
	uint32_t nr_policies; /* they only become more, so a range's number stays valid */
	char name[AS_NAMES][AS_NAME_SIZE]; /* number n is name[n - 1] */
	uint32_t nr_names;
	_Atomic bool names_forbidden; /* by a filter of system calls; without the lock */
};

extern struct as as;

/* What a program thread keeps while it holds the lock: its signal mask. */
struct as_guard {
	uint64_t sigmask;
};
/* A program thread takes the lock (a), and gives it back. */
void as_enter(struct as_guard *g) TAKES(as.lock);
void as_leave(struct as_guard *g) GIVES(as.lock);
/* The agent takes the lock; its signals are blocked anyway. */
void as_agent_lock(void) TAKES(as.lock);
void as_unlock(void) GIVES(as.lock);

/*
 * A clone(2) with CLONE_VFORK but without CLONE_VM copies the address space, for which its caller
 * needs the lock, and returns only when the child is gone. So the child says by a word of shared
 * memory that the copy is made, and whoever waits for the lock takes it over. The parent gives up
 * a lock that nobody took.
 *
 * as_vfork_begin() returns the ticket by which the other two know the call. It is 0 when there is
 * no shared memory; the parent then holds the lock throughout.
 */
#define AS_VFORK_TICKETS (KSM_PAGE_SIZE / sizeof(uint32_t))
uint32_t as_vfork_begin(void) NEEDS(as.lock);
/* The child calls this first. */
void as_vfork_copied(uint32_t ticket);
/* The parent calls this last; another thread may hold the lock by then. */
void as_vfork_end(uint32_t ticket) GIVES(as.lock);

/* Is this a forked child in which as_reset_child() has not run yet? (e) */
static inline bool as_is_orphan(void)
{
	return as.cookie && !atomic_load_explicit(as.cookie, memory_order_relaxed);
}

/* Map `len` bytes of zeros for a table; see (d). Returns NULL when there is no memory. */
void *as_map_table(size_t len);

#endif

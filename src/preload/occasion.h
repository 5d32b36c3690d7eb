/* SPDX-License-Identifier: MIT */
/* occasion.h - the agent starts when there is a daemon and memory worth it, and no sooner. */
#ifndef KSM_PRELOAD_OCCASION_H
#define KSM_PRELOAD_OCCASION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* The agent is wanted and there is none yet; written by occasion.c alone. */
extern _Atomic bool occasion_awaited;

/*
 * In the constructor: from now on the agent is wanted. With `malloc_seen` malloc() and its like say
 * so by occasion_in_malloc(), and else they do not.
 */
void occasion_begin(bool malloc_seen);
/*
 * Does a call of this function come to occasion_in_malloc()? Context: the constructor, before
 * occasion_begin(). It allocates a byte, which free() gives back.
 */
bool occasion_hears(void *(*allocate)(size_t));
/* The program is about to map so much private memory. Context: any. */
void occasion_map(size_t len);
/*
 * The program makes a thread or a child: if there should be an agent and there is none, try to
 * start it, once a second at most. Context: the program could make a thread here, and holds no lock
 * of malloc's.
 */
void occasion(void);

/*
 * The same, with any memory, if the program is root's: it is about to become somebody else's. Waits
 * some milliseconds until the agent has opened what it needs.
 */
void occasion_last(void);

/* A child of fork(2), in its first steps: it has an agent if its parent has had one. */
void occasion_in_child(void);

void occasion_in_malloc_slow(void);
void occasion_in_mmap_slow(void);

/* The same in malloc(), before it does anything, or in its like, when that is done. */
static inline void occasion_in_malloc(void)
{
	if (__builtin_expect(atomic_load_explicit(&occasion_awaited, memory_order_relaxed), 0))
		occasion_in_malloc_slow();
}

/* The same when the program's mmap() is done. Context: no allocator but the C library's. */
static inline void occasion_in_mmap(void)
{
	if (__builtin_expect(atomic_load_explicit(&occasion_awaited, memory_order_relaxed), 0))
		occasion_in_mmap_slow();
}

#endif

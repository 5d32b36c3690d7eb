/* SPDX-License-Identifier: MIT */
/*
 * malloc.c - see malloc.h.
 *
 * The C library's malloc asks for memory from within, where no interposer sees it. So it is told to
 * take all of its memory from the main heap, which it then never gives back to the kernel. The
 * agent notices growth by asking for the break now and then, and nothing else happens to a heap.
 * One arena, no mappings, no trimming; malloc_trim() does nothing and says so (returns 0). Large
 * blocks have mappings through us: large.c.
 *
 * A program that says itself what may be merged (QEMU) keeps its malloc as it is until it has asked
 * for the first time. What malloc has mapped by then is not known to the library and stays out.
 */
#include "preload/malloc.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "client/client.h"
#include "preload/large.h"
#include "preload/occasion.h"
#include "preload/preload.h"

/* The heap grows by at least so much at a time: the agent learns of it in a few large steps. */
#define HEAP_STEP (1 << 20)

typedef int (*mallopt_fn)(int, int);
typedef int (*malloc_trim_fn)(size_t);
typedef void *(*aligned_fn)(size_t, size_t);
typedef int (*posix_fn)(void **, size_t, size_t);

static void *next_mallopt, *next_malloc_trim, *next_aligned, *next_memalign, *next_posix;
static uint64_t heap_start; /* set in the constructor */
static _Atomic bool kept;   /* malloc_keep_in_heap() was called */

void malloc_resolve(void)
{
	preload_next(&next_mallopt, "mallopt");
	preload_next(&next_malloc_trim, "malloc_trim");
	preload_next(&next_aligned, "aligned_alloc");
	preload_next(&next_memalign, "memalign");
	preload_next(&next_posix, "posix_memalign");
	heap_start = (uint64_t)sysc1(SYS_brk, 0);
	large_resolve();
}

/* The start has chosen the heap. A wish for something else is accepted as if it were done. */
EXPORT int mallopt(int param, int value)
{
	bool ours = param == M_TRIM_THRESHOLD || param == M_MMAP_MAX || param == M_MMAP_THRESHOLD;

	if (!atomic_load(&kept) || (!ours && param != M_ARENA_MAX))
		return ((mallopt_fn)preload_next(&next_mallopt, "mallopt"))(param, value);
	if (ours)
		large_mallopt(param, value);
	return 1;
}

/*
 * These make the heap grow unseen. A program may take all of its memory by one such call and ask
 * for nothing ever after; so the occasion is when it is done.
 */
EXPORT void *aligned_alloc(size_t align, size_t n)
{
	void *p = ((aligned_fn)preload_next(&next_aligned, "aligned_alloc"))(align, n);

	occasion_in_malloc();
	return p;
}

EXPORT void *memalign(size_t align, size_t n)
{
	void *p = ((aligned_fn)preload_next(&next_memalign, "memalign"))(align, n);

	occasion_in_malloc();
	return p;
}

EXPORT int posix_memalign(void **p, size_t align, size_t n)
{
	int r = ((posix_fn)preload_next(&next_posix, "posix_memalign"))(p, align, n);

	occasion_in_malloc();
	return r;
}

EXPORT int malloc_trim(size_t pad)
{
	if (atomic_load(&kept))
		return 0;
	return ((malloc_trim_fn)preload_next(&next_malloc_trim, "malloc_trim"))(pad);
}

void malloc_keep_in_heap(void)
{
	mallopt_fn set = (mallopt_fn)preload_next(&next_mallopt, "mallopt");

	if (preload.native_malloc || atomic_exchange(&kept, true))
		return;
	set(M_MMAP_MAX, 0);
	set(M_ARENA_MAX, 1);
	set(M_TRIM_THRESHOLD, -1);
	set(M_TOP_PAD, HEAP_STEP);
	large_begin();
}

void malloc_offer_heap(void)
{
	if (preload.native_malloc)
		return;
	malloc_keep_in_heap();
	ksmc_heap_offer(heap_start);
}

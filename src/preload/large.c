/* SPDX-License-Identifier: MIT */
/*
 * large.c - large blocks of malloc have mappings of their own, as without us.
 *
 * malloc.c keeps the C library's malloc in the main heap. With large blocks in it two things would
 * be lost. A block that is freed would stay, while the C library alone gives it back at once. And
 * equal blocks of two programs would begin at different places in a page, after whatever stands
 * before them in each heap, so that no page of one equals a page of the other. So malloc, calloc,
 * realloc and free stand in front of the C library's for blocks of so many bytes as it would map.
 * The threshold moves as the C library's does, so a program that takes and frees blocks of one
 * size all the time gets them from the heap after the first.
 *
 * A block looks as the C library's own mapped blocks do: in front of it are the bytes between the
 * mapping's start and that header, and its size with a bit that says "mapped". Its other functions
 * (malloc_usable_size(), for one) so understand it; and since malloc_keep_in_heap() lets it map
 * nothing by itself, that bit tells whose a block is. One that it mapped before goes the same way.
 *
 * With another malloc in the program (jemalloc, for one) all of this stands aside.
 *
 * The C library's threads have arenas of their own. Ours have one in common (malloc.c), and where
 * two meet in it one sleeps in futex(2). A filter of system calls may kill for that in a program
 * that never had to wait. So once there is such a filter threads wait here, and by turning.
 */
#include "preload/large.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/client.h"
#include "preload/occasion.h"
#include "preload/preload.h"

/* glibc's defaults of M_MMAP_THRESHOLD, at first and at most, and of M_MMAP_MAX: mallopt(3). */
#define THRESHOLD_MIN ((size_t)128 << 10)
#define THRESHOLD_MAX ((size_t)32 << 20)
#define MAPPED_MAX 65536

/* What glibc has in front of a block. */
struct header {
	size_t before; /* bytes between the mapping and the header, where MAPPED */
	size_t size;   /* from the header on; the low bits are flags */
};
#define MAPPED ((size_t)2)
#define FLAGS ((size_t)7)

typedef void *(*malloc_fn)(size_t);
typedef void *(*calloc_fn)(size_t, size_t);
typedef void *(*realloc_fn)(void *, size_t);
typedef void (*free_fn)(void *);
typedef struct mallinfo (*mallinfo_fn)(void);
typedef struct mallinfo2 (*mallinfo2_fn)(void);

static void *next_malloc, *next_calloc, *next_realloc, *next_free;
static void *next_mallinfo, *next_mallinfo2;

/* A block of so many bytes is mapped. SIZE_MAX: none is, as long as large_begin() is not called. */
static _Atomic size_t threshold = SIZE_MAX;
static _Atomic bool begun;
static bool is_libc;       /* set in the constructor */
static _Atomic bool fixed; /* the program has chosen the threshold */
/* Negative after blocks were freed that the C library had mapped before. */
static _Atomic long nr_mapped, bytes_mapped;
static _Atomic long nr_mapped_max = MAPPED_MAX;

/* The C library's name for its own malloc(); absent in others. */
extern void *__libc_malloc(size_t n) __attribute__((weak));

/*
 * Is the program's malloc() the one of this file? A program may have one of its own inside. Where
 * the symbol is says nothing: in a program that is not position-independent (Debian's python3) the
 * address of malloc() is one of a stub in the program, wherever that leads.
 */
static bool comes_here(void)
{
	malloc_fn first = (malloc_fn)dlsym(RTLD_DEFAULT, "malloc");

	return first && occasion_hears(first);
}

void large_resolve(void)
{
	preload_next(&next_malloc, "malloc");
	preload_next(&next_calloc, "calloc");
	preload_next(&next_realloc, "realloc");
	preload_next(&next_free, "free");
	preload_next(&next_mallinfo, "mallinfo");
	preload_next(&next_mallinfo2, "mallinfo2");
	is_libc = __libc_malloc && next_malloc == (void *)__libc_malloc && comes_here();
}

bool large_malloc_is_libc(void)
{
	return is_libc;
}

void large_begin(void)
{
	if (!large_malloc_is_libc())
		return;
	atomic_store(&threshold, THRESHOLD_MIN);
	atomic_store(&begun, true);
}

void large_mallopt(int param, int value)
{
	if (!atomic_load(&begun))
		return;
	if (param == M_MMAP_THRESHOLD)
		atomic_store(&threshold, (size_t)value);
	else if (param == M_MMAP_MAX)
		atomic_store(&nr_mapped_max, value);
	/* By any of these a program says that it knows best. */
	atomic_store(&fixed, true);
}

/* ---- one thread at a time, without futex(2) ---- */

/*
 * Some 50 ms. Then whoever has it has lost its CPU to a thread that does not give it back, or is
 * not in this process, which is a child. The C library's own lock comes behind this one.
 */
#define MOST_TURNS (1u << 20)

static _Atomic bool turning; /* threads wait by turning; it stays so */
static _Atomic bool taken;   /* by a thread in the C library's malloc */

void large_wait_by_turning(void)
{
	atomic_store(&turning, is_libc);
}

static void take_turn(void)
{
	for (unsigned int i = 0; i < MOST_TURNS; i++) {
		if (!atomic_load_explicit(&taken, memory_order_relaxed) &&
		    !atomic_exchange_explicit(&taken, true, memory_order_acquire))
			break;
#ifdef __x86_64__
		__builtin_ia32_pause();
#elif defined(__aarch64__)
		__asm__ volatile("yield");
#endif
	}
}

/* Returns whether the caller has to end_turn(). */
static inline bool begin_turn(void)
{
	bool turn = atomic_load_explicit(&turning, memory_order_relaxed);

	if (__builtin_expect(turn, 0))
		take_turn();
	return turn;
}

static inline void end_turn(bool turn)
{
	if (__builtin_expect(turn, 0))
		atomic_store_explicit(&taken, false, memory_order_release);
}

static void *libc_malloc(size_t n)
{
	malloc_fn next = (malloc_fn)preload_next(&next_malloc, "malloc");
	bool turn = begin_turn();
	void *p = next(n);

	end_turn(turn);
	return p;
}

static void *libc_calloc(size_t nr, size_t size)
{
	calloc_fn next = (calloc_fn)preload_next(&next_calloc, "calloc");
	bool turn = begin_turn();
	void *p = next(nr, size);

	end_turn(turn);
	return p;
}

static void *libc_realloc(void *p, size_t n)
{
	realloc_fn next = (realloc_fn)preload_next(&next_realloc, "realloc");
	bool turn = begin_turn();
	void *to = next(p, n);

	end_turn(turn);
	return to;
}

static void libc_free(void *p)
{
	free_fn next = (free_fn)preload_next(&next_free, "free");
	bool turn = begin_turn();

	next(p);
	end_turn(turn);
}

/* ---- blocks ---- */

static struct header *header_of(void *p)
{
	return (struct header *)p - 1;
}

static bool is_mapped(void *p)
{
	return p && atomic_load_explicit(&begun, memory_order_relaxed) &&
	       header_of(p)->size & MAPPED;
}

static struct span mapping_of(const struct header *h)
{
	uint64_t start = (uintptr_t)h - h->before;

	return (struct span){ start, start + h->before + (h->size & ~FLAGS) };
}

/* Returns NULL: the C library may try. */
static void *map_block(size_t n)
{
	size_t len = page_up(n + sizeof(struct header));
	struct header *h;
	long r;

	if (n > PTRDIFF_MAX - 2 * (size_t)KSM_PAGE_SIZE)
		return NULL;
	if (atomic_fetch_add(&nr_mapped, 1) >= atomic_load(&nr_mapped_max))
		goto none;
	r = (long)mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sysc_failed(r))
		goto none;
	if (preload.heap_when_asked)
		ksmc_madvise((void *)r, len, MADV_MERGEABLE);
	h = (struct header *)r;
	atomic_fetch_add(&bytes_mapped, (long)len);
	h->size = len | MAPPED;
	return h + 1;
none:
	atomic_fetch_sub(&nr_mapped, 1);
	return NULL;
}

static void unmap_block(void *p)
{
	const struct header *h = header_of(p);
	struct span s = mapping_of(h);
	size_t size = h->size & ~FLAGS;
	int keep = errno;

	if (!atomic_load(&fixed) && size > atomic_load(&threshold) && size <= THRESHOLD_MAX)
		atomic_store(&threshold, size);
	if (!ksmc_munmap((void *)s.start, span_len(s))) {
		atomic_fetch_sub(&nr_mapped, 1);
		atomic_fetch_sub(&bytes_mapped, (long)span_len(s));
	}
	errno = keep;
}

static size_t usable(void *p)
{
	const struct header *h = header_of(p);
	size_t size = h->size & ~FLAGS;

	/* In the heap the next block's first word belongs to this one. */
	return h->size & MAPPED ? size - sizeof(*h) : size - sizeof(h->size);
}

/* There is no mapping to be had for a larger one in its place. */
static void *move_block(void *p, size_t n)
{
	void *to = usable(p) >= n ? p : malloc(n);

	if (to && to != p) {
		memcpy(to, p, usable(p));
		unmap_block(p);
	}
	return to;
}

static void *resize_block(void *p, size_t n)
{
	struct header *h = header_of(p);
	struct span s = mapping_of(h);
	size_t before = h->before, len = page_up(before + n + sizeof(*h));
	long r;

	if (n > PTRDIFF_MAX - 2 * (size_t)KSM_PAGE_SIZE) {
		errno = ENOMEM;
		return NULL;
	}
	if (len == span_len(s))
		return p;
	r = ksmc_mremap((void *)s.start, span_len(s), len, MREMAP_MAYMOVE, NULL);
	if (sysc_failed(r))
		return move_block(p, n);
	h = (struct header *)((uintptr_t)r + before);
	h->size = (len - before) | MAPPED;
	atomic_fetch_add(&bytes_mapped, (long)(len - span_len(s)));
	return h + 1;
}

/* ---- the C library's names ---- */

static bool is_large(size_t n)
{
	return n >= atomic_load_explicit(&threshold, memory_order_relaxed);
}

EXPORT void *malloc(size_t n)
{
	void *p;

	occasion_in_malloc();
	p = is_large(n) ? map_block(n) : NULL;
	return p ? p : libc_malloc(n);
}

EXPORT void *calloc(size_t nr, size_t size)
{
	size_t n;
	void *p = NULL;

	occasion_in_malloc();
	if (!__builtin_mul_overflow(nr, size, &n) && is_large(n))
		p = map_block(n);
	return p ? p : libc_calloc(nr, size);
}

EXPORT void free(void *p)
{
	if (is_mapped(p))
		unmap_block(p);
	else
		libc_free(p);
}

EXPORT void *realloc(void *p, size_t n)
{
	void *to;

	occasion_in_malloc();
	if (is_mapped(p)) {
		if (n)
			return resize_block(p, n);
		unmap_block(p);
		return NULL;
	}
	if (!is_large(n) || (p && usable(p) >= n))
		return libc_realloc(p, n);
	if (!p)
		return malloc(n);
	to = map_block(n);
	if (!to)
		return libc_realloc(p, n);
	memcpy(to, p, usable(p));
	free(p);
	return to;
}

/* What is mapped here counts as mapped. */
EXPORT struct mallinfo2 mallinfo2(void)
{
	struct mallinfo2 i = ((mallinfo2_fn)preload_next(&next_mallinfo2, "mallinfo2"))();

	i.hblks += (size_t)atomic_load(&nr_mapped);
	i.hblkhd += (size_t)atomic_load(&bytes_mapped);
	return i;
}

EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo i = ((mallinfo_fn)preload_next(&next_mallinfo, "mallinfo"))();

	i.hblks += (int)atomic_load(&nr_mapped);
	i.hblkhd += (int)atomic_load(&bytes_mapped);
	return i;
}

// SPDX-License-Identifier: MIT
/*
 * as.c - the tables behind as.h: a sorted array of ranges, frame bits by address, the lock, and the
 * queue of changes. Why each is safe is said in as.h.
 *
 * The range array is searched by bisection and edited with memmove. Neighbours with equal
 * attributes coalesce as the kernel's VMAs do, so there are few; a tree would cost more than it saves.
 */
#include "client/as.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "client/maps.h"
#include "client/sysc.h"

#define GIB_SHIFT 30
#define L1_SLOTS (KSM_ADDR_END >> GIB_SHIFT)
#define BITS_BYTES ((1ul << (GIB_SHIFT - KSM_PAGE_SHIFT)) / 8)
#define MIN_CAP 512
#define SPARE 128 /* entries of the table of ranges */

struct as as;

static void *private_map(size_t len)
{
	long r = sysc6(SYS_mmap, 0, (long)len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return sysc_failed(r) ? NULL : (void *)r;
}

/* ---- lock ---- */

/* Held by a call that waits for its child: ours, as soon as the child has its copy. */
static bool take_over(uint32_t seen)
{
	_Atomic uint32_t *copied = &as.copied[seen - AS_LOCK_VFORK];

	while (!atomic_load_explicit(copied, memory_order_acquire))
		sysc4(SYS_futex, copied, FUTEX_WAIT, 0, NULL);
	return atomic_compare_exchange_strong_explicit(&as.lock.word, &seen, 2,
						       memory_order_acquire, memory_order_relaxed);
}

static void lock_slow(void)
{
	for (;;) {
		uint32_t seen = 0;

		if (atomic_compare_exchange_strong_explicit(
			    &as.lock.word, &seen, 2, memory_order_acquire, memory_order_relaxed))
			return;
		if (seen >= AS_LOCK_VFORK) {
			if (take_over(seen))
				return;
		} else if (seen == 2 || atomic_compare_exchange_strong(&as.lock.word, &seen, 2)) {
			sysc4(SYS_futex, &as.lock.word, FUTEX_WAIT_PRIVATE, 2, NULL);
		}
	}
}

static void lock_table(void)
{
	uint32_t zero = 0;

	if (!atomic_compare_exchange_strong_explicit(&as.lock.word, &zero, 1, memory_order_acquire,
						     memory_order_relaxed))
		lock_slow();
}

void as_unlock(void) UNCHECKED_LOCKING
{
	if (atomic_exchange_explicit(&as.lock.word, 0, memory_order_release) == 2)
		sysc3(SYS_futex, &as.lock.word, FUTEX_WAKE_PRIVATE, 1);
}

uint32_t as_vfork_begin(void) UNCHECKED_LOCKING
{
	uint32_t slot;

	if (!as.copied) {
		long r = sysc6(SYS_mmap, 0, KSM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (sysc_failed(r))
			return 0;
		as.copied = (void *)r;
	}
	slot = as.vfork_slot = as.vfork_slot % (AS_VFORK_SLOTS - 1) + 1;
	atomic_store(&as.copied[slot], 0);
	if (atomic_exchange(&as.lock.word, AS_LOCK_VFORK + slot) == 2)
		sysc3(SYS_futex, &as.lock.word, FUTEX_WAKE_PRIVATE, INT32_MAX);
	return slot;
}

void as_vfork_copied(uint32_t slot)
{
	if (!slot)
		return;
	atomic_store_explicit(&as.copied[slot], 1, memory_order_release);
	sysc3(SYS_futex, &as.copied[slot], FUTEX_WAKE, INT32_MAX);
}

void as_vfork_end(uint32_t slot) UNCHECKED_LOCKING
{
	uint32_t ours = AS_LOCK_VFORK + slot;

	if (!slot) {
		as_unlock();
		return;
	}
	atomic_compare_exchange_strong_explicit(&as.lock.word, &ours, 0, memory_order_release,
						memory_order_relaxed);
	as_vfork_copied(slot); /* who waits for it finds the lock free, or another's */
}

static void block_signals(uint64_t *old)
{
	uint64_t all = ~0ull;

	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, sizeof(all));
}

void as_enter(struct as_guard *g) UNCHECKED_LOCKING
{
	block_signals(&g->sigmask);
	atomic_fetch_add_explicit(&as.waiting, 1, memory_order_relaxed);
	lock_table();
	atomic_fetch_sub_explicit(&as.waiting, 1, memory_order_relaxed);
}

void as_leave(struct as_guard *g) UNCHECKED_LOCKING
{
	as_unlock();
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &g->sigmask, NULL, sizeof(g->sigmask));
}

void as_agent_lock(void) UNCHECKED_LOCKING
{
	/* A futex lock is unfair; without this an agent with many orders would starve the
	 * program. Bounded: a thread stopped (ptrace) just before the lock must not stop us. */
	for (int i = 0; i < 1000 && atomic_load_explicit(&as.waiting, memory_order_relaxed); i++)
		sysc0(SYS_sched_yield);
	lock_table();
}

/* ---- life ---- */

int as_init(void)
{
	if (!as.range) {
		as.range = private_map(MIN_CAP * sizeof(*as.range));
		as.cap = as.range ? MIN_CAP : 0;
	}
	if (!as.frames_l1)
		as.frames_l1 = private_map(L1_SLOTS * sizeof(*as.frames_l1));
	if (!as.cookie) {
		void *page = private_map(KSM_PAGE_SIZE);

		if (page && sysc3(SYS_madvise, page, KSM_PAGE_SIZE, MADV_WIPEONFORK) < 0) {
			sysc2(SYS_munmap, page, KSM_PAGE_SIZE);
			page = NULL;
		}
		as.cookie = page;
	}
	if (!as.range || !as.frames_l1 || !as.cookie)
		return -ENOMEM;
	atomic_store_explicit(as.cookie, 1, memory_order_relaxed);
	return 0;
}

static void remove_at(size_t i, size_t n);

static void recover_frame(void *arg, const struct maps_entry *e) UNCHECKED_LOCKING
{
	(void)arg;
	if (maps_is_arena(e))
		as_frames_set(e->start, e->end);
}

void as_reset_child(void) UNCHECKED_LOCKING
{
	atomic_store(&as.lock.word, 0);
	atomic_store(&as.waiting, 0);
	as.copied = NULL; /* the parent's; a page of it stays mapped */
	as.nr_events = 0;
	as.overflow = false;
	if (as.editing) {
		as.nr = 0;
		as.editing = 0;
		maps_walk(0, UINT64_MAX, recover_frame, NULL);
	}
	/* Memory that was not inherited: who knows what will be mapped there. And the thread that
	 * was about to withdraw a range does not exist here. */
	for (size_t i = as.nr; i-- > 0;) {
		as.range[i].flags &= (uint8_t)~AS_UNSHARING;
		if (as.range[i].left_out & 1u << KSM_LEFT_DONTFORK) {
			as_frames_clear(as.range[i].start, as.range[i].end);
			remove_at(i, 1);
		}
	}
	if (as.cookie) /* as_init() may have failed */
		atomic_store_explicit(as.cookie, 1, memory_order_relaxed);
}

/* ---- ranges ---- */

size_t as_find(uint64_t addr)
{
	size_t lo = 0, hi = as.nr;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (as.range[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool as_knows(uint64_t start, uint64_t end)
{
	size_t i = as_find(start);

	return i < as.nr && as.range[i].start < end;
}

bool as_covers(uint64_t start, uint64_t end)
{
	for (size_t i = as_find(start); start < end; i++) {
		if (i == as.nr || as.range[i].start > start)
			return false;
		start = as.range[i].end;
	}
	return true;
}

/*
 * An edit adds at most two entries; have room for them before changing anything. The table grows early: what
 * needs an entry while memory is short, most of all munmap, finds some left.
 */
int as_reserve(size_t more)
{
	size_t cap = as.cap;
	long r;

	while (as.nr + more + SPARE > cap)
		cap *= 2;
	if (cap == as.cap)
		return 0;
	r = sysc5(SYS_mremap, as.range, as.cap * sizeof(*as.range), cap * sizeof(*as.range),
		  MREMAP_MAYMOVE, 0);
	if (sysc_failed(r))
		return as.nr + more > as.cap ? -ENOMEM : 0;
	as.range = (struct as_range *)r;
	as.cap = cap;
	return 0;
}

static void insert_at(size_t i, struct as_range r)
{
	memmove(&as.range[i + 1], &as.range[i], (as.nr - i) * sizeof(r));
	as.range[i] = r;
	as.nr++;
}

static void remove_at(size_t i, size_t n)
{
	memmove(&as.range[i], &as.range[i + n], (as.nr - i - n) * sizeof(as.range[0]));
	as.nr -= n;
}

/* Make `addr` a boundary. Room for one entry is reserved. */
static void split(uint64_t addr) NEEDS(as.lock)
{
	size_t i = as_find(addr);
	struct as_range tail;

	if (i == as.nr || as.range[i].start >= addr)
		return;
	tail = as.range[i];
	tail.start = addr;
	as.range[i].end = addr;
	insert_at(i + 1, tail);
}

static bool joins(const struct as_range *a, const struct as_range *b)
{
	return a->end == b->start && a->prot == b->prot && a->flags == b->flags &&
	       a->left_out == b->left_out;
}

/* Coalesce entries from the one before index i up to address `end`. */
static void coalesce(size_t i, uint64_t end)
{
	if (i > 0)
		i--;
	while (i + 1 < as.nr && as.range[i].start <= end) {
		if (joins(&as.range[i], &as.range[i + 1])) {
			as.range[i].end = as.range[i + 1].end;
			remove_at(i + 1, 1);
		} else {
			i++;
		}
	}
}

static void cut(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	size_t i, n = 0;

	split(start);
	split(end);
	i = as_find(start);
	while (i + n < as.nr && as.range[i + n].end <= end)
		n++;
	if (n)
		remove_at(i, n);
}

int as_set(uint64_t start, uint64_t end, uint8_t prot, uint8_t flags, uint16_t left_out)
{
	struct as_range r = { start, end, prot, flags, left_out };
	size_t i;

	if (as_reserve(3) < 0)
		return -ENOMEM;
	as.editing = 1;
	cut(start, end);
	i = as_find(start);
	insert_at(i, r);
	coalesce(i, end);
	as.editing = 0;
	atomic_store_explicit(&as.active, true, memory_order_relaxed);
	return 0;
}

void as_clear(uint64_t start, uint64_t end)
{
	if (!as_knows(start, end))
		return;
	/* A hole in the middle of one range needs an entry more. Without memory for it the tail is
	 * forgotten too: memory that is not known is merely not merged. */
	as.editing = 1;
	if (as_reserve(2) < 0) {
		size_t i = as_find(start);

		while (i < as.nr && as.range[i].start < end)
			remove_at(i, 1);
	} else {
		cut(start, end);
	}
	as.editing = 0;
}

int as_fill(uint64_t start, uint64_t end, uint8_t prot, uint8_t flags, uint16_t left_out)
{
	while (start < end) {
		size_t i = as_find(start);
		uint64_t gap_end = end;

		if (i < as.nr && as.range[i].start <= start) {
			start = as.range[i].end;
			continue;
		}
		if (i < as.nr && as.range[i].start < end)
			gap_end = as.range[i].start;
		if (as_set(start, gap_end, prot, flags, left_out) < 0)
			return -ENOMEM;
		start = gap_end;
	}
	return 0;
}

static void clear_object(const void *p, size_t len) NEEDS(as.lock)
{
	uint64_t start = (uintptr_t)p & ~(uint64_t)(KSM_PAGE_SIZE - 1);

	if (p)
		as_clear(start,
			 ((uintptr_t)p + len + KSM_PAGE_SIZE - 1) & ~(uint64_t)(KSM_PAGE_SIZE - 1));
}

void as_clear_own(void)
{
	clear_object(&as, sizeof(as));
	clear_object(as.range, as.cap * sizeof(*as.range));
	clear_object(as.cookie, KSM_PAGE_SIZE);
	clear_object(as.frames_l1, L1_SLOTS * sizeof(*as.frames_l1));
	for (size_t i = 0; i < L1_SLOTS; i++)
		clear_object(as.frames_l1[i], BITS_BYTES);
}

int as_edit(uint64_t start, uint64_t end, void (*fn)(struct as_range *r, long arg), long arg)
{
	size_t first;

	if (!as_knows(start, end))
		return 0;
	if (as_reserve(2) < 0)
		return -ENOMEM;
	as.editing = 1;
	split(start);
	split(end);
	first = as_find(start);
	for (size_t i = first; i < as.nr && as.range[i].start < end; i++)
		fn(&as.range[i], arg);
	coalesce(first, end);
	as.editing = 0;
	return 0;
}

/* ---- frame bits ---- */

static uint64_t *bits_of(uint64_t addr)
{
	return as.frames_l1 ? as.frames_l1[addr >> GIB_SHIFT] : NULL;
}

static size_t bit_nr(uint64_t addr)
{
	return (addr >> KSM_PAGE_SHIFT) & (BITS_BYTES * 8 - 1);
}

bool as_frame_bit(uint64_t addr)
{
	uint64_t *bits = bits_of(addr);
	size_t b = bit_nr(addr);

	return bits && (bits[b / 64] >> (b % 64) & 1);
}

int as_frames_reserve(uint64_t start, uint64_t end)
{
	for (size_t i = start >> GIB_SHIFT; i <= (end - 1) >> GIB_SHIFT; i++) {
		if (!as.frames_l1[i])
			as.frames_l1[i] = private_map(BITS_BYTES);
		if (!as.frames_l1[i])
			return -ENOMEM;
	}
	return 0;
}

int as_frames_set(uint64_t start, uint64_t end)
{
	for (uint64_t a = start; a < end; a += KSM_PAGE_SIZE) {
		uint64_t *bits;
		size_t b = bit_nr(a);

		if (!bits_of(a) && as_frames_reserve(a, a + 1) < 0)
			return -ENOMEM;
		bits = bits_of(a);
		if (!(bits[b / 64] >> (b % 64) & 1))
			as.nr_frame_pages++;
		bits[b / 64] |= 1ull << (b % 64);
	}
	return 0;
}

void as_frames_clear(uint64_t start, uint64_t end)
{
	while (as.nr_frame_pages && as_frames_next(&start, &(uint64_t){ 0 }, end)) {
		size_t b = bit_nr(start);

		bits_of(start)[b / 64] &= ~(1ull << (b % 64));
		as.nr_frame_pages--;
		start += KSM_PAGE_SIZE;
	}
}

/* First page at or after addr whose bit is `set`, or end. */
static uint64_t next_bit(uint64_t addr, uint64_t end, bool set)
{
	while (addr < end) {
		uint64_t *bits = bits_of(addr);
		size_t b = bit_nr(addr);
		uint64_t word;

		if (!bits) {
			if (!set)
				return addr;
			addr = ((addr >> GIB_SHIFT) + 1) << GIB_SHIFT;
			continue;
		}
		word = (set ? bits[b / 64] : ~bits[b / 64]) >> (b % 64);
		if (word) {
			addr += (uint64_t)__builtin_ctzll(word) << KSM_PAGE_SHIFT;
			return addr < end ? addr : end;
		}
		addr += (64 - b % 64) << KSM_PAGE_SHIFT;
	}
	return end;
}

bool as_frames_next(uint64_t *start, uint64_t *run_end, uint64_t end)
{
	if (!as.nr_frame_pages)
		return false;
	if (end > (L1_SLOTS << GIB_SHIFT)) /* programs may give any length */
		end = L1_SLOTS << GIB_SHIFT;
	*start = next_bit(*start, end, true);
	if (*start >= end)
		return false;
	*run_end = next_bit(*start, end, false);
	return true;
}

/* ---- queue ---- */

void as_event(uint32_t type, uint64_t start, uint64_t end)
{
	struct as_event *last = as.nr_events ? &as.event[as.nr_events - 1] : NULL;

	if (end > (L1_SLOTS << GIB_SHIFT)) /* programs may give any length */
		end = L1_SLOTS << GIB_SHIFT;
	if (last && last->type == type && last->end == start) {
		last->end = end;
	} else if (last && last->type == type && last->start <= start && last->end >= end) {
		return;
	} else if (as.nr_events == AS_EVENTS) {
		as.overflow = true;
	} else {
		as.event[as.nr_events++] = (struct as_event){ type, start, end };
	}
}

/* What fails for want of memory may succeed later; not for ever, as the limit of mappings is no such want. */
static void repeat(uint64_t start, uint64_t end, int advice)
{
	for (int i = 0; i < 100 && sysc3(SYS_madvise, start, end - start, advice); i++)
		sysc0(SYS_sched_yield);
}

void as_repeat_advice(uint64_t start, uint64_t end, uint16_t left_out)
{
	if (left_out & 1u << KSM_LEFT_DONTFORK)
		repeat(start, end, MADV_DONTFORK);
	if (left_out & 1u << KSM_LEFT_WIPEONFORK)
		repeat(start, end, MADV_WIPEONFORK);
	if (left_out & 1u << KSM_LEFT_DONTDUMP)
		repeat(start, end, MADV_DONTDUMP);
}

/* SPDX-License-Identifier: MIT */
/*
 * as.c - the lock of as.h.
 *
 * It is a futex of the library's own because a child must be able to start over with it (e), a
 * vfork must be able to hand it on while its holder sleeps, and because the C library's mutexes
 * know nothing of either.
 */
#include "client/as.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>

#include "client/sysc.h"

struct as as;

/*
 * The agent yields so often while program threads want the lock. A futex lock is unfair: without
 * this an agent with many orders starves the program. The loop ends because a thread that was
 * stopped (ptrace) before it took the lock must not stop the agent.
 */
#define YIELDS_MAX 1000

void *as_map_table(size_t len)
{
	long r = sysc6(SYS_mmap, 0, (long)len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return sysc_failed(r) ? NULL : (void *)r;
}

/* The holder waits for its child; this thread may have the lock when the child has its copy. */
static bool take_over(uint32_t seen)
{
	_Atomic uint32_t *copied = &as.copied[seen - AS_LOCK_VFORK];

	while (!atomic_load_explicit(copied, memory_order_acquire))
		sysc4(SYS_futex, copied, FUTEX_WAIT, 0, NULL);
	return atomic_compare_exchange_strong_explicit(&as.lock.word, &seen, AS_LOCK_WAITED,
						       memory_order_acquire, memory_order_relaxed);
}

static void lock_slow(void)
{
	for (;;) {
		uint32_t seen = AS_LOCK_FREE;

		if (atomic_compare_exchange_strong_explicit(&as.lock.word, &seen, AS_LOCK_WAITED,
							    memory_order_acquire,
							    memory_order_relaxed))
			return;
		if (seen >= AS_LOCK_VFORK) {
			if (take_over(seen))
				return;
		} else if (seen == AS_LOCK_WAITED ||
			   atomic_compare_exchange_strong(&as.lock.word, &seen, AS_LOCK_WAITED)) {
			sysc4(SYS_futex, &as.lock.word, FUTEX_WAIT_PRIVATE, AS_LOCK_WAITED, NULL);
		}
	}
}

static void lock_table(void)
{
	uint32_t seen = AS_LOCK_FREE;

	if (!atomic_compare_exchange_strong_explicit(&as.lock.word, &seen, AS_LOCK_HELD,
						     memory_order_acquire, memory_order_relaxed))
		lock_slow();
}

void as_unlock(void) UNCHECKED_LOCKING
{
	if (atomic_exchange_explicit(&as.lock.word, AS_LOCK_FREE, memory_order_release) ==
	    AS_LOCK_WAITED)
		sysc3(SYS_futex, &as.lock.word, FUTEX_WAKE_PRIVATE, 1);
}

uint32_t as_vfork_begin(void) UNCHECKED_LOCKING
{
	uint32_t ticket;

	if (!as.copied) {
		long r = sysc6(SYS_mmap, 0, KSM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (sysc_failed(r))
			return 0;
		as.copied = (void *)r;
	}
	ticket = as.vfork_ticket = as.vfork_ticket % (AS_VFORK_TICKETS - 1) + 1;
	atomic_store(&as.copied[ticket], 0);
	if (atomic_exchange(&as.lock.word, AS_LOCK_VFORK + ticket) == AS_LOCK_WAITED)
		sysc3(SYS_futex, &as.lock.word, FUTEX_WAKE_PRIVATE, INT32_MAX);
	return ticket;
}

void as_vfork_copied(uint32_t ticket)
{
	if (!ticket)
		return;
	atomic_store_explicit(&as.copied[ticket], 1, memory_order_release);
	sysc3(SYS_futex, &as.copied[ticket], FUTEX_WAKE, INT32_MAX);
}

void as_vfork_end(uint32_t ticket) UNCHECKED_LOCKING
{
	uint32_t ours = AS_LOCK_VFORK + ticket;

	if (!ticket) {
		as_unlock();
		return;
	}
	atomic_compare_exchange_strong_explicit(&as.lock.word, &ours, AS_LOCK_FREE,
						memory_order_release, memory_order_relaxed);
	as_vfork_copied(ticket); /* waiters find the lock free, or held by another thread */
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
	for (int i = 0; i < YIELDS_MAX && atomic_load_explicit(&as.waiting, memory_order_relaxed);
	     i++)
		sysc0(SYS_sched_yield);
	lock_table();
}

// SPDX-License-Identifier: MIT
/*
 * ops.c - the system calls that change an address space, on memory where frames may stand.
 *
 * A program that mapped plain anonymous memory must see plain anonymous memory, although parts of
 * it are by now private file mappings of frames. Where the kernel treats the two alike (munmap,
 * mprotect, most advice) the call goes straight through and only the tables follow. Where it does
 * not:
 *   MADV_DONTNEED  on a frame would show the frame again: fresh anonymous memory is mapped over,
 *                  but for locked memory, which the kernel refuses.
 *   MADV_FREE      is refused on file mappings: as DONTNEED there.
 *   MADV_GUARD_INSTALL throws the contents away, too: when the guard goes there must be zeros.
 *   MADV_WIPEONFORK, DONTFORK, DONTDUMP: the range is un-shared first and left alone from then on, also
 *                  where it is not known yet. WIPEONFORK is refused on file mappings, in which pages
 *                  that broke copy-on-write still lie: the child gets empty memory there from us.
 *   mremap         cannot cross mappings: remap.c.
 *
 * All of it under the lock (as.h), and the daemon is told afterwards, in order, by the agent.
 */
#include "client/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "client/agent.h"
#include "client/mailbox.h"
#include "client/as.h"
#include "client/client.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "client/user.h"
#include "wire/kernel_abi.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

/* ---- first use, forks ---- */

static struct as_guard fork_guard; /* of the thread that forks; under the lock */

/*
 * Pages in mappings of frames that the parent wants wiped: the kernel keeps them from the child (see
 * advice_on_frames()), which gets empty memory here. Nothing may have come to stand there yet.
 */
static void wipe_in_child(void) UNCHECKED_LOCKING
{
	uint64_t at, run_end;

	for (size_t i = 0; i < as.nr; i++) {
		const struct as_range *r = &as.range[i];

		if (!(r->left_out & 1u << KSM_LEFT_WIPEONFORK))
			continue;
		for (at = r->start; as_frames_next(&at, &run_end, r->end); at = run_end) {
			long p = sysc6(SYS_mmap, (long)at, (long)(run_end - at), r->prot,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

			if (p == -EEXIST)
				continue; /* the kernel did not hear that advice: inherited */
			as_frames_clear(at, run_end);
			if (!sysc_failed(p))
				sysc3(SYS_madvise, at, run_end - at, MADV_WIPEONFORK);
		}
	}
}

static void start_over_in_child(bool raw) UNCHECKED_LOCKING
{
	as_reset_child();
	wipe_in_child();
	agent_reset_child(raw);
}

void ops_enter(struct as_guard *g)
{
	if (as_is_orphan())
		start_over_in_child(true);
	as_enter(g);
}

void ksmc_fork_prepare(void) UNCHECKED_LOCKING
{
	struct as_guard g;

	ops_enter(&g);
	fork_guard = g;
}

void ksmc_fork_parent(void) UNCHECKED_LOCKING
{
	struct as_guard g = fork_guard;

	as_leave(&g);
}

/* The child of an interposed raw clone: its C library does not know, so no agent. */
void ksmc_fork_child(void)
{
	struct as_guard g = fork_guard;

	start_over_in_child(true);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &g.sigmask, NULL, sizeof(g.sigmask));
}

void ksmc_vfork_prepare(struct ksmc_vfork *v) UNCHECKED_LOCKING
{
	struct as_guard g;

	ops_enter(&g);
	v->sigmask = g.sigmask;
	v->slot = as_vfork_begin();
}

void ksmc_vfork_parent(const struct ksmc_vfork *v) UNCHECKED_LOCKING
{
	as_vfork_end(v->slot);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &v->sigmask, NULL, sizeof(v->sigmask));
}

void ksmc_vfork_child(const struct ksmc_vfork *v)
{
	as_vfork_copied(v->slot);
	start_over_in_child(true);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &v->sigmask, NULL, sizeof(v->sigmask));
}

static void start_agent_if_wanted(bool told)
{
	struct as_guard g;
	bool want = agent_watches_heap();

	as_enter(&g);
	want |= as.offer_min_pages || as.merge_any; /* what comes will be offered */
	for (size_t i = 0; i < as.nr && !want; i++)
		want = as.range[i].flags & AS_WANTED;
	as_leave(&g);
	if (want)
		agent_start(told);
}

void ksmc_defer_agent(void)
{
	agent_defer();
}

void ksmc_set_runtime_dir(const char *dir)
{
	agent_find_daemon(dir);
}

void ksmc_start_agent(void)
{
	start_agent_if_wanted(true);
}

static void after_fork_in_child(void)
{
	struct as_guard g = fork_guard;

	start_over_in_child(false);
	start_agent_if_wanted(false);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &g.sigmask, NULL, sizeof(g.sigmask));
}

int ksmc_init(void)
{
	static _Atomic int state; /* 0 new, 1 being made, 2 made */
	int zero = 0, r;

	if (atomic_load_explicit(&state, memory_order_acquire) == 2)
		return 0;
	if (!atomic_compare_exchange_strong(&state, &zero, 1)) {
		while (atomic_load_explicit(&state, memory_order_acquire) == 1)
			sysc0(SYS_sched_yield);
		return atomic_load(&state) == 2 ? 0 : -ENOMEM;
	}
	r = as_init();
	if (!r && pthread_atfork(ksmc_fork_prepare, ksmc_fork_parent, after_fork_in_child))
		r = -ENOMEM;
	atomic_store_explicit(&state, r ? 0 : 2, memory_order_release);
	return r;
}

int ops_leave(struct as_guard *g, bool offered)
{
	int r = 0;

	/* With no daemon nobody empties the queue, and a connection begins by declaring everything. */
	bool events = (as.nr_events || as.overflow) && mailbox_connected();

	as_leave(g);
	if (offered)
		r = agent_start(false);
	if (events)
		mailbox_poke();
	return r == -ENOMEM ? r : 0;
}

/* ---- mmap, munmap, mprotect ---- */

void ops_forget(uint64_t start, uint64_t end)
{
	as_frames_clear(start, end); /* these outlive a table that was thrown away (as.h) */
	if (!as_knows(start, end))
		return;
	as_clear(start, end);
	as_event(KSM_MSG_DEL, start, end);
}

/* Reasons to leave a mapping alone that its flags give. */
static uint16_t left_out_by_flags(int flags)
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

long ksmc_mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t off)
{
	bool fixed = flags & MAP_FIXED;
	bool anon = (flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE;
	struct as_guard g;
	bool offer = false;
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

		offer = policy || as.merge_any;
		if (as_set((uint64_t)r, end, (uint8_t)prot, offer ? AS_WANTED : 0,
			   left_out_by_flags(flags)) < 0)
			offer = false;
		if (offer)
			as_event(KSM_MSG_ADD, (uint64_t)r, end);
	}
	ops_leave(&g, offer);
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

struct relearn_ctx {
	uint64_t start, end;
};

static void relearn_prot(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	const struct relearn_ctx *c = arg;
	uint64_t start = e->start > c->start ? e->start : c->start;
	uint64_t end = e->end < c->end ? e->end : c->end;

	if (as_edit(start, end, set_prot, e->prot) < 0)
		as_clear(start, end);
}

/*
 * The kernel did a part of it and we may not see which (no descriptor to be had): so it is done once more in
 * steps, up to one that fails again and again.
 */
static void protect_again(uint64_t start, uint64_t end, int prot) NEEDS(as.lock)
{
	const int known = prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
	int tries = 0;

	while (start < end && tries++ < 100) {
		if (sysc3(SYS_mprotect, start, KSM_PAGE_SIZE, prot)) {
			sysc0(SYS_sched_yield);
			continue;
		}
		if (as_edit(start, start + KSM_PAGE_SIZE, set_prot, known) < 0)
			as_clear(start, start + KSM_PAGE_SIZE);
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
	/* It may have failed half-way: fresh memory that we map must have the protection that the
	 * program has there. If the table cannot follow, the range is given up: unknown memory is
	 * never merged. */
	if (r && start % KSM_PAGE_SIZE == 0 && as_knows(start, end)) {
		if (maps_walk(start, end, relearn_prot, &(struct relearn_ctx){ start, end }) < 0)
			protect_again(start, end, prot);
	} else if (!r &&
		   as_edit(start, end, set_prot, prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) < 0) {
		as_clear(start, end);
	}
	ops_leave(&g, false);
	return r;
}

/* ---- fresh memory where frames stood ---- */

long ops_empty_frames(uint64_t start, uint64_t end)
{
	uint64_t run_end;

	while (as_frames_next(&start, &run_end, end)) {
		struct as_range r = { .prot = PROT_READ | PROT_WRITE };
		size_t i = as_find(start);

		if (i < as.nr && as.range[i].start <= start) {
			r = as.range[i];
			run_end = run_end < r.end ? run_end : r.end;
		}
		if (!sysc_failed(sysc6(SYS_mmap, (long)start, (long)(run_end - start), r.prot,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0))) {
			as_frames_clear(start, run_end);
			as_event(KSM_MSG_FORGET, start, run_end);
			as_repeat_advice(start, run_end, r.left_out);
		} else if ((r.prot & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE)) {
			/* No mapping to be had: zeros all the same. */
			memset((void *)start, 0, run_end - start);
		} else {
			return -ENOMEM;
		}
		start = run_end;
	}
	return 0;
}

/* ---- madvise ---- */

static void mark_unsharing(struct as_range *r, long why)
{
	r->flags |= AS_UNSHARING;
	if (why >= 0)
		r->left_out |= (uint16_t)(1u << why);
	else
		r->flags &= (uint8_t) ~(AS_WANTED | AS_ADVISED);
}

static void unmark_unsharing(struct as_range *r, long arg)
{
	(void)arg;
	r->flags &= (uint8_t)~AS_UNSHARING;
}

/* Without memory to split ranges. Nobody else's marks can be there: requests are serialised. */
static void unmark_all(void)
{
	for (size_t i = 0; i < as.nr; i++)
		unmark_unsharing(&as.range[i], 0);
}

/*
 * Withdraw known parts of a range (why < 0), or leave them alone for a reason; when it returns no
 * page there stands on a frame. The mark keeps the agent from merging between the steps; requests
 * are serialised, so nobody else takes the mark away.
 */
static long withdraw(uint64_t start, uint64_t end, int why)
{
	struct as_guard g;
	uint64_t sigmask, at = start, run_end;
	bool frames = false;
	long r;

	if (as_is_orphan()) /* whose parent's threads may have held the request lock */
		start_over_in_child(true);
	mailbox_begin(&sigmask);
	ops_enter(&g);
	if (!as_knows(start, end)) {
		as_leave(&g);
		mailbox_end(&sigmask);
		return 0;
	}
	r = as_edit(start, end, mark_unsharing, why);
	frames = !r && as_frames_next(&at, &run_end, end);
	as_leave(&g);
	if (frames)
		r = agent_unshare(start, end);
	ops_enter(&g);
	if (as_edit(start, end, unmark_unsharing, 0) < 0)
		unmark_all();
	if (!r)
		as_event(KSM_MSG_DEL, start, end);
	ops_leave(&g, false);
	mailbox_end(&sigmask);
	return r;
}

static bool is_unsharing(uint64_t start, uint64_t end) NEEDS(as.lock)
{
	for (size_t i = as_find(start); i < as.nr && as.range[i].start < end; i++)
		if (as.range[i].flags & AS_UNSHARING)
			return true;
	return false;
}

/* The mark goes before the request lock is let go. */
void ops_enter_settled(struct as_guard *g, uint64_t start, uint64_t end)
{
	uint64_t sigmask;

	ops_enter(g);
	while (is_unsharing(start, end)) {
		as_leave(g);
		mailbox_begin(&sigmask);
		mailbox_end(&sigmask);
		ops_enter(g);
	}
}

struct offer_ctx {
	uint64_t start, end, at;
	bool gap, nomem;
};

static void want(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED | AS_ADVISED;
	r->left_out &=
		(uint16_t) ~(1u << KSM_LEFT_SPLICED); /* the program's word that it is over */
}

static bool may_learn(const struct maps_entry *e)
{
	return as.learn == KSMC_LEARN_ALL ||
	       (as.learn == KSMC_LEARN_HEAP && !strcmp(e->name, "[heap]"));
}

/* One mapping of the range, as the kernel sees it: learn it if it may be merged. */
static void learn_mapping(void *arg, const struct maps_entry *e) NEEDS(as.lock)
{
	struct offer_ctx *c = arg;
	uint64_t start = e->start > c->start ? e->start : c->start;
	uint64_t end = e->end < c->end ? e->end : c->end;

	c->gap |= start != c->at;
	c->at = end;
	if (maps_is_anon(e) && end <= KSM_ADDR_END && may_learn(e) &&
	    as_fill(start, end, e->prot, 0, 0) < 0)
		c->nomem = true;
}

/*
 * Learn what is not known of [start, end). The table must not move meanwhile: it might be learned
 * where it is no more.
 */
static void learn(struct offer_ctx *c) NEEDS(as.lock)
{
	bool known = as_covers(c->start, c->end);
	int nr = known ? 0 : maps_walk(0, 0, NULL, NULL);

	if (nr < 0 || (!known && as_reserve(2 * ((size_t)nr + as.nr) + 8) < 0)) {
		c->nomem = true;
		return;
	}
	maps_walk(c->start, c->end, learn_mapping, c);
	if (!known) {
		as_clear_own();
		agent_clear_own();
	}
}

static long offer(uint64_t start, uint64_t end)
{
	struct offer_ctx c = { start, end, start, false, false };
	struct as_guard g;

	if (ksmc_init() < 0)
		return -ENOMEM;
	ops_enter(&g);
	learn(&c);
	if (as_edit(start, end, want, 0) < 0)
		c.nomem = true;
	as_event(KSM_MSG_ADD, start, end);
	if (ops_leave(&g, as_knows(start, end)) < 0)
		c.nomem = true;
	return c.nomem || c.gap || c.at < end ? -ENOMEM : 0;
}

static long unmerge(uint64_t start, uint64_t end)
{
	/* Is there a gap? Does nothing else, and needs no descriptor. */
	return withdraw(start, end, -1) ||
			       sysc3(SYS_msync, start, end - start, MS_ASYNC) == -ENOMEM ?
		       -ENOMEM :
		       0;
}

/* ---- advice that throws contents away ---- */

/*
 * Does the kernel know memory of [start, end) as locked? MADV_COLD refuses it by the same rule as
 * MADV_DONTNEED, does nothing to contents, and comes right before these are thrown away.
 */
static bool any_locked(uint64_t start, uint64_t end)
{
	return sysc3(SYS_madvise, start, end - start, MADV_COLD) == -EINVAL;
}

/* End of the part of [start, end) that is not locked, or that is; uniform. */
static uint64_t same_lock(uint64_t start, uint64_t end, bool locked)
{
	uint64_t ok = start + KSM_PAGE_SIZE, bad = end;

	if (locked) { /* every page counts; ranges that are locked and stand on frames are small */
		while (ok < end && any_locked(ok, ok + KSM_PAGE_SIZE))
			ok += KSM_PAGE_SIZE;
		return ok;
	}
	if (!any_locked(start, end))
		return end;
	while (bad - ok > KSM_PAGE_SIZE) {
		uint64_t mid = ok + (bad - ok) / 2 / KSM_PAGE_SIZE * KSM_PAGE_SIZE;

		if (any_locked(start, mid))
			bad = mid;
		else
			ok = mid;
	}
	return ok;
}

/* A run of frames becomes fresh zeros, if the kernel would let anonymous memory there. */
static long discard_run(uint64_t start, uint64_t end, int advice) NEEDS(as.lock)
{
	while (start < end) {
		bool locked = any_locked(start, start + KSM_PAGE_SIZE);
		uint64_t stop = same_lock(start, end, locked);
		long r;

		if (locked && advice != MADV_DONTNEED_LOCKED)
			return -EINVAL;
		r = ops_empty_frames(start, stop);
		if (!r && advice == MADV_GUARD_INSTALL)
			r = sysc3(SYS_madvise, start, stop - start, advice);
		if (r)
			return r;
		if (locked)
			sysc3(SYS_mlock2, start, stop - start, MLOCK_ONFAULT);
		start = stop;
	}
	return 0;
}

/*
 * In the order of addresses, as the kernel goes: what comes before memory that it refuses is done, what
 * comes after is not, and a gap is an error in the end. *start: how far it came, by whole runs of frames.
 */
static long discard_range(uint64_t *start, uint64_t end, int advice) NEEDS(as.lock)
{
	long gap = 0, r;

	while (*start < end) {
		uint64_t run = *start, run_end = end;

		if (!as_frames_next(&run, &run_end, end))
			run = run_end = end;
		if (run > *start) {
			r = sysc3(SYS_madvise, *start, run - *start, advice);
			if (r == -ENOMEM)
				gap = r;
			else if (r)
				return r;
		}
		*start = run;
		r = run < run_end ? discard_run(run, run_end, advice) : 0;
		if (r)
			return r;
		*start = run_end;
	}
	return gap;
}

/* DONTNEED, FREE and guards: frames in the range become fresh zeros. */
static long discard(uint64_t start, uint64_t end, int advice)
{
	struct as_guard g;
	uint64_t at = start, run_end, done = end;
	long r;

	ops_enter(&g);
	/* Nothing may be lost to an advice that this kernel does not know: asked with no length. */
	if (as_frames_next(&at, &run_end, end) && !sysc3(SYS_madvise, start, 0, advice)) {
		done = start;
		r = discard_range(&done, end, advice);
	} else {
		r = sysc3(SYS_madvise, start, end - start, advice);
	}
	/* Not what still stands on frames: the daemon would give these to other contents. */
	if (done > start && as_knows(start, done))
		as_event(KSM_MSG_FORGET, start, done);
	ops_leave(&g, false);
	return r;
}

static void undo_reason(struct as_range *r, long why)
{
	r->left_out &= (uint16_t) ~(1u << why);
}

static int reason_of_advice(int advice, bool *undo)
{
	*undo = advice == MADV_DOFORK || advice == MADV_KEEPONFORK || advice == MADV_DODUMP;
	switch (advice) {
	case MADV_DONTFORK:
	case MADV_DOFORK:
		return KSM_LEFT_DONTFORK;
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		return KSM_LEFT_WIPEONFORK;
	case MADV_DONTDUMP:
	case MADV_DODUMP:
		return KSM_LEFT_DONTDUMP;
	default:
		return -1;
	}
}

/*
 * What to say of a run of frames in place of `advice`. After un-sharing only pages that broke
 * copy-on-write stand there, and memory of a file cannot be wiped on fork: it is kept from the child,
 * who gets fresh memory from wipe_in_child().
 */
static int advice_on_frames(int advice, uint16_t left_out)
{
	bool dontfork = left_out & 1u << KSM_LEFT_DONTFORK;
	bool wipe = left_out & 1u << KSM_LEFT_WIPEONFORK;

	switch (advice) {
	case MADV_WIPEONFORK:
		return MADV_DONTFORK;
	case MADV_KEEPONFORK:
		return dontfork ? MADV_NORMAL : MADV_DOFORK;
	case MADV_DOFORK:
		return wipe ? MADV_NORMAL : MADV_DOFORK;
	default:
		return advice;
	}
}

/* Part by part, in the order of addresses; see discard_range(). Lock held. */
static long advise_parts(uint64_t start, uint64_t end, int advice) NEEDS(as.lock)
{
	long gap = 0, r;

	while (start < end) {
		uint64_t run = start, run_end = end;
		int say = advice;

		if (!as_frames_next(&run, &run_end, end)) {
			run = end;
		} else if (run == start) {
			size_t i = as_find(start);
			bool known = i < as.nr && as.range[i].start <= start;

			if (known && as.range[i].end < run_end)
				run_end = as.range[i].end;
			say = advice_on_frames(advice, known ? as.range[i].left_out : 0);
			run = run_end;
		}
		r = sysc3(SYS_madvise, start, run - start, say);
		if (r == -ENOMEM)
			gap = r;
		else if (r)
			return r;
		start = run;
	}
	return gap;
}

/* DONTFORK, WIPEONFORK, DONTDUMP and their opposites. */
static long advise_forks(uint64_t start, uint64_t end, int advice, enum ksm_left_out why, bool undo)
{
	struct as_guard g;
	long r = undo ? 0 : ksmc_exclude((void *)start, end - start, why);

	if (r)
		return r;
	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc3(SYS_madvise, start, end - start, advice);
	ops_enter(&g);
	r = advise_parts(start, end, advice);
	ops_leave(&g, false);
	if (undo && !r)
		ksmc_include((void *)start, end - start, why);
	return r;
}

long ksmc_madvise(void *addr, size_t len, int advice) NEEDS(as.lock)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	bool undo;
	int why;

	if (advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE) {
		if (start % KSM_PAGE_SIZE || end < start || (len && end == start))
			return -EINVAL;
		if (!len)
			return 0;
		return advice == MADV_MERGEABLE ? offer(start, end) : unmerge(start, end);
	}
	why = reason_of_advice(advice, &undo);
	if (start % KSM_PAGE_SIZE || end <= start)
		return sysc3(SYS_madvise, addr, len, advice);
	if (why >= 0)
		return advise_forks(start, end, advice, (enum ksm_left_out)why, undo);
	if (!atomic_load_explicit(&as.active, memory_order_relaxed))
		return sysc3(SYS_madvise, addr, len, advice);
	if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_FREE ||
	    advice == MADV_GUARD_INSTALL)
		return discard(start, end, advice);
	if (advice == MADV_REMOVE && as_knows(start, end))
		return -EINVAL; /* as on anonymous memory */
	return sysc3(SYS_madvise, addr, len, advice);
}

/* ---- policy, heap, reasons ---- */

long ksmc_exclude(void *addr, size_t len, enum ksm_left_out reason)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct offer_ctx c = { start, end, start, false, false };
	struct as_guard g;

	if (start % KSM_PAGE_SIZE)
		return 0; /* the kernel refuses what the caller is about to ask for */
	if (ksmc_init() < 0)
		return -ENOMEM;
	if (!addr && !len) {
		ops_enter(&g);
		as.exclude_all = true;
		as_leave(&g);
		return withdraw(0, KSM_ADDR_END, (int)reason);
	}
	if (end <= start)
		return 0;
	/* The reason is remembered, too, for memory that is offered later. */
	ops_enter(&g);
	learn(&c);
	ops_leave(&g, false);
	return c.nomem ? -ENOMEM : withdraw(start, end, (int)reason);
}

void ksmc_include(void *addr, size_t len, enum ksm_left_out reason)
{
	uint64_t start = (uintptr_t)addr, end = page_up(start + len);
	struct as_guard g;

	if (!atomic_load_explicit(&as.active, memory_order_relaxed) || start % KSM_PAGE_SIZE ||
	    (len && end <= start))
		return;
	ops_enter(&g);
	if (!addr && !len) {
		as.exclude_all = false;
		end = KSM_ADDR_END;
	}
	as_edit(start, end, undo_reason, reason);
	if (as_knows(start, end))
		as_event(KSM_MSG_ADD, start, end);
	ops_leave(&g, false);
}

/* Nothing left to do for a range that was left alone for this reason before? */
static bool is_left_alone(uint64_t start, uint64_t end, enum ksm_left_out reason)
{
	struct as_guard g;
	bool all = true;

	ops_enter(&g);
	for (size_t i = as_find(start); all && start < end; i++) {
		all = i < as.nr && as.range[i].start <= start &&
		      (as.range[i].left_out & 1u << reason) && !(as.range[i].flags & AS_UNSHARING);
		start = all ? as.range[i].end : end;
	}
	as_leave(&g);
	return all;
}

static long leave_spliced(const struct iovec *iov)
{
	uint64_t start = (uintptr_t)iov->iov_base & ~(uint64_t)(KSM_PAGE_SIZE - 1);
	uint64_t end = page_up((uintptr_t)iov->iov_base + iov->iov_len);

	if (!iov->iov_len || end <= start || end > KSM_ADDR_END ||
	    is_left_alone(start, end, KSM_LEFT_SPLICED))
		return 0;
	return ksmc_exclude((void *)start, end - start, KSM_LEFT_SPLICED);
}

/*
 * Into a pipe goes a reference to the page, which is no pin (UFFDIO_MOVE does not see it): what the
 * program writes later would miss the reader. The kernel's own KSM leaves such a page alone, by its
 * reference count. Out of a pipe (its reading end) bytes are copied.
 */
long ksmc_vmsplice(int fd, const struct iovec *iov, size_t nr, unsigned int flags)
{
	long mode = sysc3(SYS_fcntl, fd, F_GETFL, 0), r = 0;
	bool gives = mode >= 0 && (mode & O_ACCMODE) != O_RDONLY;

	if (ksmc_init() < 0)
		return -ENOMEM;
	if (gives && nr <= IOV_MAX && user_range(iov, nr * sizeof(*iov)))
		for (size_t i = 0; i < nr && !r; i++)
			r = leave_spliced(&iov[i]);
	return r ? r : sysc4(SYS_vmsplice, fd, iov, nr, flags);
}

void ksmc_set_offer_policy(size_t min_pages)
{
	struct as_guard g;

	if (ksmc_init() < 0)
		return;
	ops_enter(&g);
	as.offer_min_pages = min_pages;
	as_leave(&g);
}

void ksmc_set_learn(enum ksmc_learn learn)
{
	struct as_guard g;

	if (ksmc_init() < 0)
		return;
	ops_enter(&g);
	as.learn = (uint8_t)learn;
	as_leave(&g);
}

static void want_any(struct as_range *r, long arg)
{
	(void)arg;
	r->flags |= AS_WANTED;
}

long ksmc_set_merge_any(bool enable)
{
	struct as_guard g;
	long r = 0;
	bool was;

	if (ksmc_init() < 0)
		return -ENOMEM;
	ops_enter(&g);
	was = as.merge_any;
	as.merge_any = enable;
	if (enable) {
		r = as_edit(0, KSM_ADDR_END, want_any, 0);
		as_event(KSM_MSG_ADD, 0, KSM_ADDR_END);
	}
	if (ops_leave(&g, enable) < 0)
		r = -ENOMEM;
	if (was && !enable)
		r = withdraw(0, KSM_ADDR_END, -1);
	if (r) { /* the same again must not find nothing to do */
		ops_enter(&g);
		as.merge_any = was;
		as_leave(&g);
	}
	return r;
}

bool ksmc_get_merge_any(void)
{
	return as.merge_any;
}

void ksmc_heap_watch(void)
{
	if (ksmc_init() < 0)
		return;
	agent_watch_heap(page_up((uint64_t)sysc1(SYS_brk, 0)));
	agent_start(false);
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

long ksmc_stat(struct ksm_stat *st)
{
	struct ksm_msg_stat_reply r = { 0 };
	struct ksm_stat full = { .size = st ? st->size : 0 };
	struct as_guard g;
	uint64_t sigmask;
	int err;

	if (!st || st->size < 2 * sizeof(uint32_t))
		return -EINVAL;
	if (ksmc_init() < 0)
		return -ENOMEM;
	if (as_is_orphan())
		start_over_in_child(true);
	mailbox_begin(&sigmask);
	err = mailbox_stat(&r);
	mailbox_end(&sigmask);
	if (err == -ETIMEDOUT)
		return err;
	full.connected = !err;
	if (!err) {
		full.rmap_items = r.rmap_items;
		full.zero_pages = r.zero_pages;
		full.merging_pages = r.merging_pages;
		full.process_profit = r.process_profit;
	}
	ops_enter(&g);
	full.merge_any = as.merge_any;
	for (size_t i = 0; i < as.nr; i++)
		full.mergeable |= as_offered(&as.range[i]);
	as_leave(&g);
	memcpy(st, &full, st->size < sizeof(full) ? st->size : sizeof(full));
	return 0;
}

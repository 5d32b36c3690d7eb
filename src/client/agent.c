/* SPDX-License-Identifier: MIT */
/*
 * agent.c - the agent's thread: how it starts, connects again and again, and is lost in a fork.
 *
 * A thread of the C library, since a bare clone(2) would share the thread pointer of the thread
 * that made it, and with that its errno and stack protector. Whatever it blocks for is in wait.c.
 *
 * The thread ends where it has nothing in hand, when the program asks for that (agent_end()) or has
 * ended itself. What it tracked is tracked no more, as after a loss of the daemon, and frames that
 * are mapped stay theirs through the sentinel.
 *
 * A fork takes the thread away and copies its memory. Only heritage stays true in the child; the
 * rest is assigned as at the start of a program, so a child differs from a new process in that
 * struct alone.
 */
#include "client/agent.h"

#include <errno.h>
#include <linux/close_range.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#include "base/span.h"
#include "client/as.h"
#include "client/as_life.h"
#include "client/as_ranges.h"
#include "client/connect.h"
#include "client/io.h"
#include "client/mailbox.h"
#include "client/release.h"
#include "client/serve.h"
#include "client/sysc.h"
#include "client/unshare.h"
#include "client/wait.h"

/* Room for the thread's frames (the largest is the 12 KiB of maps and scan buffers) and for the
 * static TLS of the program, which glibc puts on the same mapping. Untouched pages cost nothing. */
#define STACK_MIN (1u << 20)
#define STACK_MAX (16u << 20)
#define RETRY_MIN_MS 100u
#define RETRY_MAX_MS 1000u
/* A daemon that refuses this process does so again until its operator changes something. */
#define RETRY_REFUSED_MS 10000u
/* A forked child that is about to exec, or (under ksm-run) a program that is over in an instant,
 * should not have paid for a connection. One that asks for merging itself (mailbox_hasten()) waits
 * for it, so it is not made to wait. */
#define START_DELAY_MS 30

/* The agent ends within some 100 us. What keeps it for so long is no reason to wait on. */
#define END_MS 10000
/* More ends than this in ENDS_MS are too many to begin again. setpriv(1) makes five. */
#define ENDS_MAX 16
#define ENDS_MS 1000

struct agent agent = { .kit = KIT_NONE, .link = LINK_NONE(&agent.kit) };

/* ---- the thread ---- */

static bool refused(void)
{
	uint32_t error = atomic_load(&mailbox.refused);

	return error == EACCES || error == EPERM || error == EDOM || error == EINVAL ||
	       error == EPROTONOSUPPORT;
}

/* Nothing of the connection is left, nor of what the agent tracked. The newest arena is known. */
static void forget_kit(struct agent *a)
{
	int *fd[] = { &a->kit.uffd_sync, &a->kit.uffd_async, &a->kit.mem,  &a->kit.pagemap,
		      &a->kit.maps,      &a->kit.arena,      &a->kit.sigfd };

	for (size_t i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		kit_close(fd[i]);
	as_agent_lock();
	kit_end(&a->kit);
	as_unlock();
	a->link = (struct link)LINK_NONE(&a->kit);
}

/* A table of descriptors of its own, empty; the program's stays as it is. False: a sandbox. */
static bool open_kit(struct agent *a)
{
	uint64_t poke = 1ull << (MAILBOX_SIGNAL - 1);

	if (sysc3(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE))
		return false;
	a->kit.owner = (int32_t)sysc0(SYS_gettid);
	a->kit.sigfd =
		(int)sysc4(SYS_signalfd4, -1, &poke, sizeof(poke), SFD_CLOEXEC | SFD_NONBLOCK);
	return a->kit.sigfd >= 0;
}

/*
 * Until the process is told to join. Whoever saved it to disk meanwhile may have given the thread
 * the program's descriptors, so it takes a table of its own again.
 */
static void stay_released(struct agent *a)
{
	atomic_store(&mailbox.refused, ECANCELED);
	forget_kit(a);
	a->kit.owner = (int32_t)sysc0(SYS_gettid);
	if (!release_wait(&a->link))
		return;
	atomic_store(&mailbox.refused, 0);
	atomic_store(&a->heritage.released, false);
	if (!open_kit(a))
		mailbox_disable();
}

static void loop(struct agent *a, uint64_t delay_ms)
{
	uint64_t until = kit_now_ms() + delay_ms;
	uint32_t asked = atomic_load(&as.domain_nr);

	while (!mailbox_ending()) {
		uint64_t now = kit_now_ms();

		if (atomic_load(&a->heritage.released)) {
			stay_released(a);
			until = delay_ms = 0;
			if (a->kit.sigfd < 0)
				return;
			continue;
		}

		if (atomic_load(&mailbox.first_try) == TRY_AT_ONCE)
			until = now;
		/* A refusal is no answer to another question. */
		if (now < until && asked == atomic_load(&as.domain_nr)) {
			wait_for(&a->link, 0, (int)(until - now));
			continue;
		}
		asked = atomic_load(&as.domain_nr);
		heap_poll(&a->heritage.heap);
		if (connect_open_self(&a->kit) && connect_daemon(&a->link, &a->heritage) &&
		    serve_connection(&a->link, &a->heritage))
			delay_ms = RETRY_MIN_MS;
		mailbox_tried();
		delay_ms = u64_max(u64_min(delay_ms * 2, RETRY_MAX_MS), RETRY_MIN_MS);
		until = kit_now_ms() + (refused() ? RETRY_REFUSED_MS : delay_ms);
	}
}

/* What the first thread, which has ended, gave to exit(2). It is the last field of its stat. */
static int first_exit_code(void)
{
	char buf[1024], *p;
	long n = io_slurp("/proc/self/stat", buf, sizeof(buf));
	int code = 0;

	for (p = buf + n; n > 0 && p > buf && p[-1] != ' '; p--)
		;
	for (; n > 0 && *p >= '0' && *p <= '9'; p++)
		code = code * 10 + (*p - '0');
	return code >> 8 & 0xff;
}

/*
 * The first thread has ended. If the others have, too, then the process ends with this thread. If
 * they left by the C library, that counts this one as the last now and calls exit(0) when it
 * returns. If they left by the kernel, that takes the exit code of the last for the process's.
 */
static void end_with_program(void)
{
	int code = first_exit_code();

	if (code)
		sysc1(SYS_exit, code);
}

/* A sandbox (seccomp) may refuse what the agent needs: then it ends at once. */
static void *thread_main(void *delay_ms)
{
	struct agent *a = &agent;
	uint64_t all = ~0ull, glibc = ~GLIBC_SIGNALS;
	bool ok = open_kit(a);

	atomic_store(&mailbox.last_tid, (int32_t)sysc0(SYS_gettid));
	sysc5(SYS_prctl, PR_SET_NAME, KSM_AGENT_NAME, 0, 0, 0);
	if (!ok) {
		mailbox_disable();
		atomic_store(&mailbox.tid, 0);
		return NULL;
	}
	/* glibc's own signals, too, which pthread_sigmask() leaves alone: see wait_for(). */
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
	heap_begin(&a->heritage.heap);
	atomic_store(&mailbox.poked, 0); /* the last agent may have left one unread */
	atomic_store_explicit(&mailbox.tid, a->kit.owner, memory_order_release);
	connect_open_self(&a->kit);
	loop(a, (uintptr_t)delay_ms);
	forget_kit(a);
	if (atomic_load(&mailbox.disabled))
		atomic_store(&mailbox.tid, 0);
	/* The C library waits at a thread's end for the answer to a change of the user. */
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &glibc, NULL, sizeof(glibc));
	if (atomic_load(&mailbox.disabled))
		end_with_program();
	return NULL;
}

bool agent_is_main(uintptr_t thread)
{
	return thread == (uintptr_t)thread_main;
}

/* ---- its start ---- */

static int try_start(struct heritage *h, uintptr_t delay_ms, size_t size)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	long policy;
	int r;

	if (!h->stack) {
		h->stack = kit_map(size);
		h->stack_size = size;
	}
	if (!h->stack || pthread_attr_init(&attr))
		return -ENOMEM;
	/* Not the priority of the thread that starts it, perhaps for a moment only: urgent.h. */
	policy = sysc1(SYS_sched_getscheduler, 0) & ~SCHED_RESET_ON_FORK;
	if (policy == SCHED_FIFO || policy == SCHED_RR)
		pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstack(&attr, h->stack, h->stack_size);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, thread_main, (void *)delay_ms);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

/*
 * The first thread leaves, and the process may go on without it, or end with its next thread. The
 * C library ends a process when it counts no thread any more, and it would count the agent. So
 * there is none from here on.
 */
static void first_thread_leaves(void *arg)
{
	(void)arg;
	mailbox_disable();
	agent_end();
}

void agent_mind_first_thread(void)
{
	struct heritage *h = &agent.heritage;

	if (sysc0(SYS_gettid) != sysc0(SYS_getpid))
		return;
	if (!h->have_key)
		h->have_key = !pthread_key_create(&h->key, first_thread_leaves);
	if (h->have_key)
		pthread_setspecific(h->key, h);
}

/* A program with much static TLS (sanitizers, for one) is refused the small stack with EINVAL. */
static int start_thread(struct heritage *h, uintptr_t delay_ms)
{
	int r = -EINVAL;

	for (size_t size = STACK_MIN; r == -EINVAL && size <= STACK_MAX; size *= 2) {
		r = try_start(h, delay_ms, size);
		if (r == -EINVAL && h->stack) {
			sysc2(SYS_munmap, h->stack, h->stack_size);
			h->stack = NULL;
		}
	}
	return r;
}

int agent_start(bool told)
{
	struct heritage *h = &agent.heritage;
	int32_t none = 0, pid = (int32_t)sysc0(SYS_getpid);
	bool deferred = atomic_load(&h->deferred);
	uintptr_t delay = deferred || (h->pid && h->pid != pid) ? START_DELAY_MS : 0;
	int r;

	if (atomic_load(&mailbox.disabled))
		return -ENOSYS;
	if (deferred && !told)
		return atomic_load(&mailbox.tid) ? 0 : -EAGAIN;
	if (deferred && !atomic_load(&mailbox.tid) && !connect_may_be_there(h))
		return -EAGAIN;
	if (!atomic_compare_exchange_strong(&mailbox.tid, &none, -1))
		return 0;
	h->pid = mailbox.pid = pid;
	connect_find_daemon(h, NULL);
	agent_mind_first_thread();
	r = start_thread(h, delay);
	if (r)
		atomic_store(&mailbox.tid, 0);
	return r ? -ENOMEM : 0;
}

/* ---- its end ---- */

static void nap(void)
{
	struct timespec ts = { 0, 20000 };

	sysc2(SYS_nanosleep, &ts, NULL);
}

/* Wait until the thread is gone. False: not by the time `until`. */
static bool wait_for_end(int32_t tid, uint64_t until)
{
	uint64_t pending;

	while (sysc3(SYS_tgkill, mailbox.pid, tid, 0) != -ESRCH) {
		if (kit_now_ms() > until)
			return false;
		nap();
	}
	/* The kernel takes the thread from its lists and counts in one hold of this call's lock. */
	sysc2(SYS_rt_sigpending, &pending, sizeof(pending));
	return true;
}

/* A program that changes what it may several times a second is left without an agent. */
static void count_end(struct heritage *h)
{
	uint64_t now = kit_now_ms();

	if (now > h->ends_ms + ENDS_MS) {
		h->ends_ms = now;
		h->nr_ends = 0;
	}
	if (++h->nr_ends > ENDS_MAX)
		mailbox_disable();
}

bool agent_is_here(void)
{
	return !mailbox.pid || mailbox.pid == (int32_t)sysc0(SYS_getpid);
}

/* One thread at a time ends the agent; others wait for that. */
static bool end_thread(void)
{
	uint64_t until = kit_now_ms() + END_MS;
	int32_t tid;
	bool none = false, ended;

	while (!atomic_compare_exchange_strong(&mailbox.ending, &none, true)) {
		none = false;
		if (!atomic_load(&mailbox.tid) || kit_now_ms() > until)
			return false;
		nap();
	}
	mailbox_agent_goes();
	while ((tid = atomic_load(&mailbox.tid)) == -1 && kit_now_ms() < until)
		nap(); /* it is about to say which */
	mailbox_poke();
	/* One that has said already that it goes is still counted. */
	if (!tid && atomic_load(&mailbox.disabled))
		tid = atomic_load(&mailbox.last_tid);
	ended = tid > 0 && wait_for_end(tid, until);
	if (ended) {
		count_end(&agent.heritage);
	} else if (tid) {
		mailbox_disable(); /* it ends some time, and nobody may wait for it until then */
		return false;
	}
	/* In this order, since the next agent may begin from then on. */
	atomic_store(&mailbox.ending, false);
	if (ended)
		atomic_compare_exchange_strong(&mailbox.tid, &tid, 0);
	return ended;
}

/*
 * No lock is held meanwhile, and the C library's signal is let in: a thread that changes the user
 * of all threads holds a lock that the agent needs for its end, and waits for every other thread.
 */
bool agent_end(void)
{
	uint64_t mask = ~SIGNAL_SETXID, old;
	bool ended;

	if (!atomic_load(&mailbox.tid) || !agent_is_here())
		return false;
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
	ended = end_thread();
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	return ended;
}

void agent_find_daemon(const char *dir)
{
	connect_find_daemon(&agent.heritage, dir);
}

void agent_defer(void)
{
	connect_find_daemon(&agent.heritage, NULL);
	atomic_store(&agent.heritage.deferred, 1);
}

/* ---- for program threads ---- */

int agent_unshare(uint64_t start, uint64_t end)
{
	const struct kit none = KIT_NONE;
	int r = -ENOSYS;

	if (agent_start(false) == 0)
		r = mailbox_unshare(start, end);
	return r == -ENOSYS ? unshare_range(&none, start, end, NULL) : r;
}

void agent_offer_heap(uint64_t end)
{
	heap_offer(&agent.heritage.heap, end);
}

bool agent_offers_heap(void)
{
	return heap_is_offered(&agent.heritage.heap);
}

void agent_heap_shrunk(uint64_t end)
{
	heap_shrunk(&agent.heritage.heap, end);
}

int agent_own(struct span v[AGENT_OWN])
{
	const struct {
		const void *p;
		size_t len;
	} own[AGENT_OWN] = {
		{ &agent, sizeof(agent) },
		{ &mailbox, sizeof(mailbox) },
		{ agent.heritage.stack, agent.heritage.stack_size },
		{ agent.kit.buf, 2 * KIT_ORDER_BYTES },
		{ agent.kit.staging, KIT_ORDER_BYTES },
	};
	int nr = 0;

	for (size_t i = 0; i < AGENT_OWN; i++)
		if (own[i].p)
			v[nr++] = (struct span){ page_down((uintptr_t)own[i].p),
						 page_up((uintptr_t)own[i].p + own[i].len) };
	return nr;
}

void agent_clear_own(void)
{
	struct span v[AGENT_OWN];

	for (int i = 0, nr = agent_own(v); i < nr; i++)
		as_clear(v[i].start, v[i].end);
}

void agent_reset_child(bool raw)
{
	sentinel_retire(&agent.heritage.sentinels);
	agent.kit = (struct kit)KIT_NONE;
	agent.link = (struct link)LINK_NONE(&agent.kit);
	mailbox = (struct mailbox){ .disabled = raw };
}

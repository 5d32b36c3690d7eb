/* SPDX-License-Identifier: MIT */
/*
 * agent.c - the agent's thread: how it starts, connects again and again, and is lost in a fork.
 *
 * A thread of the C library, since a bare clone(2) would share the thread pointer of the thread
 * that made it, and with that its errno and stack protector. Whatever it blocks for is in wait.c.
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
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#include "base/span.h"
#include "client/as.h"
#include "client/as_life.h"
#include "client/as_ranges.h"
#include "client/connect.h"
#include "client/mailbox.h"
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

struct agent agent = { .kit = KIT_NONE, .link = LINK_NONE(&agent.kit) };

/* ---- the thread ---- */

static bool refused(void)
{
	uint32_t error = atomic_load(&mailbox.refused);

	return error == EACCES || error == EPERM || error == EDOM || error == EINVAL;
}

static void loop(struct agent *a, uint64_t delay_ms)
{
	uint64_t until = kit_now_ms() + delay_ms;
	uint32_t asked = atomic_load(&as.domain_nr);

	for (;;) {
		uint64_t now = kit_now_ms();

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

/* A sandbox (seccomp) may refuse what the agent needs: then it ends at once. */
static void *thread_main(void *delay_ms)
{
	struct agent *a = &agent;
	uint64_t urg = 1ull << (SIGURG - 1), all = ~0ull;
	/* A table of its own, and empty; the program's stays as it is. */
	bool alone = sysc3(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) == 0;

	if (alone) {
		sysc5(SYS_prctl, PR_SET_NAME, "ksm-agent", 0, 0, 0);
		a->kit.sigfd = (int)sysc4(SYS_signalfd4, -1, &urg, sizeof(urg),
					  SFD_CLOEXEC | SFD_NONBLOCK);
	}
	if (!alone || a->kit.sigfd < 0) {
		mailbox_disable();
		return NULL;
	}
	/* glibc's own signals, too, which pthread_sigmask() leaves alone: see wait_for(). */
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
	heap_begin(&a->heritage.heap);
	a->kit.owner = (int32_t)sysc0(SYS_gettid);
	atomic_store_explicit(&mailbox.tid, a->kit.owner, memory_order_release);
	connect_open_self(&a->kit);
	loop(a, (uintptr_t)delay_ms);
	return NULL;
}

/* ---- its start ---- */

static int try_start(struct heritage *h, uintptr_t delay_ms, size_t size)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int r;

	if (!h->stack) {
		h->stack = kit_map(size);
		h->stack_size = size;
	}
	if (!h->stack || pthread_attr_init(&attr))
		return -ENOMEM;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstack(&attr, h->stack, h->stack_size);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, thread_main, (void *)delay_ms);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
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
	if (!atomic_compare_exchange_strong(&mailbox.tid, &none, -1))
		return 0;
	h->pid = mailbox.pid = pid;
	connect_find_daemon(h, NULL);
	r = start_thread(h, delay);
	if (r)
		atomic_store(&mailbox.tid, 0);
	return r ? -ENOMEM : 0;
}

void agent_find_daemon(const char *dir)
{
	connect_find_daemon(&agent.heritage, dir);
}

void agent_defer(void)
{
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

void agent_clear_own(void)
{
	const struct {
		const void *p;
		size_t len;
	} own[] = {
		{ &agent, sizeof(agent) },
		{ &mailbox, sizeof(mailbox) },
		{ agent.heritage.stack, agent.heritage.stack_size },
		{ agent.kit.buf, 2 * KIT_ORDER_BYTES },
		{ agent.kit.staging, KIT_ORDER_BYTES },
	};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i].p)
			as_clear(page_down((uintptr_t)own[i].p),
				 page_up((uintptr_t)own[i].p + own[i].len));
}

void agent_reset_child(bool raw)
{
	sentinel_retire(&agent.heritage.sentinels);
	agent.kit = (struct kit)KIT_NONE;
	agent.link = (struct link)LINK_NONE(&agent.kit);
	mailbox = (struct mailbox){ .disabled = raw };
}

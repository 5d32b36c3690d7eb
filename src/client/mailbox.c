/* SPDX-License-Identifier: MIT */
/*
 * mailbox.c - requests of program threads to the agent.
 *
 * The agent is woken by a signal, sent to its thread alone, which has it blocked and reads it from
 * a signalfd. (No descriptor would do: the agent has a table of its own.) A signalfd also takes
 * what waits for the process as a whole, so a signal that programs use would be taken from them:
 * PostgreSQL's processes wake each other by SIGURG, blocked and read from signalfds, and waited for
 * ever. MAILBOX_SIGNAL is for a coprocessor that nobody has. Should a program send it all the same,
 * the agent gives it back (wait.c).
 *
 * A program thread waits on a futex in the mailbox with all its signals blocked. It looks again
 * every second, so that it goes on when the agent was disabled or ended meanwhile.
 */
#include "client/mailbox.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <time.h>

#include "client/kit.h"
#include "client/sysc.h"

#define FOREVER (-1)
#define STAT_TIMEOUT_MS 2000
/* A first try takes a millisecond, unless the daemon is stopped or the machine is very busy. Less
 * than a second, for ts.tv_nsec. */
#define FIRST_TRY_MS 200
#define HEARD_MS 200 /* it takes a tenth of a millisecond */
#define LATE_MS 1000

struct mailbox mailbox;

void mailbox_poke(void)
{
	int32_t tid = atomic_load_explicit(&mailbox.tid, memory_order_acquire);

	/* Not getpid(): a vfork child shares our memory but not our process ID, and a signal that
	 * gets nowhere would leave `poked` set for ever. */
	if (tid <= 0 || atomic_exchange(&mailbox.poked, 1))
		return;
	if (sysc3(SYS_tgkill, mailbox.pid, tid, MAILBOX_SIGNAL) < 0)
		atomic_store(&mailbox.poked, 0); /* it has ended */
}

void mailbox_hasten(void)
{
	uint32_t later = TRY_LATER;
	uint64_t now, until;

	if (!atomic_load(&mailbox.tid) || atomic_load(&mailbox.first_try) == TRY_OVER)
		return; /* no agent, or nothing to wait for */
	now = kit_now_ms();
	until = now + FIRST_TRY_MS;
	if (atomic_compare_exchange_strong(&mailbox.first_try, &later, TRY_AT_ONCE))
		mailbox_poke();
	for (; atomic_load(&mailbox.first_try) == TRY_AT_ONCE && !atomic_load(&mailbox.disabled) &&
	       now < until;
	     now = kit_now_ms()) {
		struct timespec ts = { 0, (long)(until - now) * 1000000 };

		sysc4(SYS_futex, &mailbox.first_try, FUTEX_WAIT_PRIVATE, TRY_AT_ONCE, &ts);
	}
}

void mailbox_tried(void)
{
	if (atomic_exchange(&mailbox.first_try, TRY_OVER) == TRY_AT_ONCE)
		sysc3(SYS_futex, &mailbox.first_try, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

static void lock_word(_Atomic uint32_t *word)
{
	uint32_t zero = 0;

	if (atomic_compare_exchange_strong(word, &zero, 1))
		return;
	while (atomic_exchange(word, 2) != 0)
		sysc4(SYS_futex, word, FUTEX_WAIT_PRIVATE, 2, NULL);
}

static void unlock_word(_Atomic uint32_t *word)
{
	if (atomic_exchange(word, 0) == 2)
		sysc3(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1);
}

void mailbox_begin(uint64_t *sigmask) UNCHECKED_LOCKING
{
	uint64_t all = ~0ull;

	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &all, sigmask, sizeof(all));
	lock_word(&mailbox.lock.word);
}

void mailbox_end(const uint64_t *sigmask) UNCHECKED_LOCKING
{
	unlock_word(&mailbox.lock.word);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, sigmask, NULL, sizeof(*sigmask));
}

/* Hand the request over and wait. 0: it was finished; -ETIMEDOUT; -ENOSYS: there is no agent. */
static int request(enum request kind, int timeout_ms)
{
	uint64_t until = kit_now_ms() + (uint64_t)timeout_ms;
	struct timespec ts = { 1, 0 };

	if (timeout_ms != FOREVER && timeout_ms < 1000)
		ts = (struct timespec){ 0, timeout_ms * 1000000l };

	atomic_store_explicit(&mailbox.kind, kind, memory_order_release);
	mailbox_poke();
	while (mailbox_kind() == kind) {
		if (atomic_load(&mailbox.disabled) || mailbox_ending() ||
		    !atomic_load(&mailbox.tid)) {
			atomic_store(&mailbox.kind, REQ_NONE);
			return -ENOSYS;
		}
		sysc4(SYS_futex, &mailbox.kind, FUTEX_WAIT_PRIVATE, kind, &ts);
		if (timeout_ms != FOREVER && kit_now_ms() >= until) {
			atomic_store(&mailbox.kind, REQ_NONE);
			return -ETIMEDOUT;
		}
	}
	return 0;
}

int mailbox_unshare(uint64_t start, uint64_t end)
{
	int r;

	mailbox.range = (struct span){ start, end };
	r = request(REQ_UNSHARE, FOREVER);
	return r ? r : mailbox.result;
}

static int ask(enum request kind, struct ksm_msg_stat_reply *out, int timeout_ms)
	NEEDS(mailbox.lock)
{
	int r;

	if (!mailbox_connected())
		return -ENOTCONN;
	mailbox.result = 0;
	mailbox.nr++;
	r = request(kind, timeout_ms);
	if (!r)
		r = mailbox.result;
	*out = mailbox.stat;
	return r;
}

int mailbox_stat(struct ksm_msg_stat_reply *out)
{
	return ask(REQ_STAT, out, STAT_TIMEOUT_MS);
}

int mailbox_passes(struct ksm_msg_stat_reply *out, int timeout_ms)
{
	return ask(REQ_PASSES, out, timeout_ms);
}

void mailbox_heard(void)
{
	struct ksm_msg_stat_reply none;

	if (kit_now_ms() >= mailbox.late_ms && ask(REQ_STAT, &none, HEARD_MS) == -ETIMEDOUT)
		mailbox.late_ms = kit_now_ms() + LATE_MS;
}

void mailbox_finish(enum request kind)
{
	uint32_t was = kind;

	/*
	 * The thread may have timed out, and another asked for something else, which is not done.
	 */
	if (atomic_compare_exchange_strong(&mailbox.kind, &was, REQ_NONE))
		sysc3(SYS_futex, &mailbox.kind, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

void mailbox_agent_goes(void)
{
	uint32_t at_once = TRY_AT_ONCE;

	sysc3(SYS_futex, &mailbox.kind, FUTEX_WAKE_PRIVATE, INT32_MAX);
	/* Who waits for the first try may ask for that of the next agent. */
	if (atomic_compare_exchange_strong(&mailbox.first_try, &at_once, TRY_LATER))
		sysc3(SYS_futex, &mailbox.first_try, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

void mailbox_disable(void)
{
	if (atomic_exchange(&mailbox.disabled, true))
		return;
	sysc3(SYS_futex, &mailbox.kind, FUTEX_WAKE_PRIVATE, INT32_MAX);
	mailbox_tried();
}

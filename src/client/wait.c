/* SPDX-License-Identifier: MIT */
/*
 * wait.c - the agent's sleep, and the requests of program threads on waking.
 *
 * The agent sleeps in one ppoll: the socket, and a signalfd through which program threads wake it.
 * Requests are served here and not in the loop (serve.c) because the agent also sleeps where it
 * waits for room in the socket: a stopped daemon stops no program thread.
 */
#include "client/wait.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>

#include "client/as.h"
#include "client/mailbox.h"
#include "client/sysc.h"
#include "client/unshare.h"
#include "client/urgent.h"

/* So often an agent that nobody wakes looks whether the program has ended. */
#define LOOK_MS 10000

/* What was done before the thread asked, and the daemon has yet to hear. */
static bool events_wait(void)
{
	bool any;

	as_agent_lock();
	any = as.nr_events || as.overflow;
	as_unlock();
	return any;
}

/*
 * Returns what to tell the program thread, or -EINPROGRESS: the daemon's answer finishes it. That
 * shows all that the thread did before it asked: serve() asks when it has told that.
 */
static int ask_for_program(struct link *l, uint32_t flags)
{
	if (!mailbox_connected())
		return -ENOTCONN;
	if (events_wait())
		return -EINPROGRESS;
	if (l->reply_for == mailbox.nr)
		return -EINPROGRESS;
	if (link_ask(l, flags) < 0)
		return -ETIMEDOUT;
	l->reply_for = mailbox.nr;
	l->reply_id = l->stat_id;
	return -EINPROGRESS;
}

void wait_serve_request(struct link *l)
{
	enum request kind = mailbox_kind();
	int r;

	switch (kind) {
	case REQ_UNSHARE:
		urgent_begin(l->kit);
		r = unshare_range(l->kit, mailbox.range.start, mailbox.range.end, NULL);
		urgent_rest(l->kit);
		break;
	case REQ_STAT:
		r = ask_for_program(l, 0);
		break;
	case REQ_PASSES:
		/* Not in the middle of telling what is offered: wait_ask_passes(). */
		if (mailbox_connected())
			return;
		r = -ENOTCONN;
		break;
	default:
		return;
	}
	if (r == -EINPROGRESS)
		return;
	mailbox.result = r;
	mailbox_finish(kind);
}

void wait_ask_passes(struct link *l)
{
	int r;

	if (mailbox_kind() != REQ_PASSES)
		return;
	r = ask_for_program(l, KSM_STAT_HURRY);
	if (r == -EINPROGRESS)
		return;
	mailbox.result = r;
	mailbox_finish(REQ_PASSES);
}

/*
 * The signal was sent to the process, and another thread has it blocked, too, or was about to
 * handle it. The kernel lets us send with another thread's words only what sigqueue(3) sends. Sleep
 * a little, because until the program takes it the signalfd is ready to read.
 */
static void give_back(const struct signalfd_siginfo *si)
{
	struct timespec ts = { 0, 5000000 };
	siginfo_t info = { .si_signo = MAILBOX_SIGNAL, .si_code = si->ssi_code };

	info.si_pid = (pid_t)si->ssi_pid;
	info.si_uid = si->ssi_uid;
	info.si_ptr = (void *)(uintptr_t)si->ssi_ptr;
	if (si->ssi_code >= 0 || sysc3(SYS_rt_sigqueueinfo, mailbox.pid, MAILBOX_SIGNAL, &info) < 0)
		sysc2(SYS_kill, mailbox.pid, MAILBOX_SIGNAL);
	sysc2(SYS_nanosleep, &ts, NULL);
}

/* A read takes what was sent to the thread first. */
static void drain_pokes(int sigfd)
{
	struct signalfd_siginfo si;

	while (sysc3(SYS_read, sigfd, &si, sizeof(si)) == (long)sizeof(si)) {
		if (si.ssi_code == SI_TKILL)
			continue; /* to this thread, and by a vfork child perhaps */
		if (si.ssi_code == SI_QUEUE && si.ssi_int == KSM_JOIN_VALUE)
			continue; /* sent twice: release.c */
		give_back(&si);
		break;
	}
	atomic_store(&mailbox.poked, 0);
}

/*
 * Has the process's first thread ended? The kernel takes its address space away then, and says
 * that it has another one than the agent. (A pidfd of it tells of its end only after that of all
 * other threads: Linux 6.15.)
 */
static bool first_thread_ended(const struct kit *k)
{
	return sysc5(SYS_kcmp, mailbox.pid, k->owner, KCMP_VM, 0, 0) > 0;
}

void wait_look_for_end(const struct kit *k)
{
	if (!first_thread_ended(k))
		return;
	mailbox_disable();
	atomic_store(&mailbox.ending, true);
}

short wait_for(struct link *l, short events, int timeout_ms)
{
	struct pollfd p[2] = { { l->kit->sigfd, POLLIN, 0 }, { l->sock, events, 0 } };
	int sleep_ms = timeout_ms < 0 || timeout_ms > LOOK_MS ? LOOK_MS : timeout_ms;
	struct timespec ts = { sleep_ms / 1000, sleep_ms % 1000 * 1000000L };
	/* These are let in here and nowhere else: the handler of 33 reads the stack of the thread
	 * that changes the user, and that may be missing in a transaction. */
	uint64_t mask = ~GLIBC_SIGNALS;
	long r = sysc5(SYS_ppoll, p, l->sock >= 0 ? 2 : 1, &ts, &mask, sizeof(mask));

	if (r > 0 && p[0].revents)
		drain_pokes(l->kit->sigfd);
	if (r == 0 && timeout_ms)
		wait_look_for_end(l->kit);
	if (mailbox_ending())
		return POLLHUP;
	wait_serve_request(l);
	return r > 0 && l->sock >= 0 ? p[1].revents : 0;
}

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
#include <poll.h>
#include <sys/signalfd.h>
#include <time.h>

#include "client/mailbox.h"
#include "client/sysc.h"
#include "client/unshare.h"

/* glibc's own signals: 32 cancels a thread, 33 changes the user of all threads. */
#define GLIBC_SIGNALS (3ull << 31)

/* Returns what to tell the program thread, or -EINPROGRESS: the daemon's answer finishes it. */
static int ask_for_program(struct link *l)
{
	if (!mailbox_connected())
		return -ENOTCONN;
	if (l->reply_for == mailbox.nr)
		return -EINPROGRESS;
	if (link_ask(l) < 0)
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
		r = unshare_range(l->kit, mailbox.range.start, mailbox.range.end, NULL);
		break;
	case REQ_STAT:
		r = ask_for_program(l);
		break;
	default:
		return;
	}
	if (r == -EINPROGRESS)
		return;
	mailbox.result = r;
	mailbox_finish(kind);
}

static void drain_pokes(int sigfd)
{
	struct signalfd_siginfo si[4];

	while (sysc3(SYS_read, sigfd, si, sizeof(si)) > 0)
		;
	atomic_store(&mailbox.poked, 0);
}

short wait_for(struct link *l, short events, int timeout_ms)
{
	struct pollfd p[2] = { { l->kit->sigfd, POLLIN, 0 }, { l->sock, events, 0 } };
	struct timespec ts = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };
	/* These are let in here and nowhere else: the handler of 33 reads the stack of the thread
	 * that changes the user, and that may be missing in a transaction. */
	uint64_t mask = ~GLIBC_SIGNALS;
	long r = sysc5(SYS_ppoll, p, l->sock >= 0 ? 2 : 1, timeout_ms < 0 ? NULL : &ts, &mask,
		       sizeof(mask));

	if (r > 0 && p[0].revents)
		drain_pokes(l->kit->sigfd);
	wait_serve_request(l);
	return r > 0 && l->sock >= 0 ? p[1].revents : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * release.c - see release.h.
 *
 * A process is saved to disk (CRIU) or inspected by something that knows no frames: then it must
 * have neither mappings of frames nor sentinels nor a userfaultfd nor a connection. So the agent
 * gives everything back, in the way in which a process leaves its domain, and sleeps without a
 * descriptor. Its tables go on following what the program does; whatever is offered meanwhile is
 * told when it comes back.
 *
 * Pages that were written since they were merged are private, but lie in mappings of frames. They
 * are moved out, too, unless a device may have them pinned. Where that cannot be, or memory is
 * sealed, nothing is released: half of it would be of no use to anybody.
 *
 * A signal says that the process is to come back, because there is no connection that could.
 */
#include "client/release.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "client/as.h"
#include "client/as_frames.h"
#include "client/mailbox.h"
#include "client/maps.h"
#include "client/unshare.h"
#include "client/wait.h"

/* So often an agent that nobody wakes looks whether the program has ended. */
#define LOOK_S 10

static void find_arena(void *arg, const struct maps_entry *e)
{
	*(bool *)arg |= maps_is_arena(e);
}

/* Is any mapping of frames left? What cannot be looked at counts as one. */
static bool any_frames(void) NEEDS(as.lock)
{
	uint64_t start = 0, end;
	bool found = as_frames_next(&start, &end, KSM_ADDR_END);

	return found || maps_walk(0, UINT64_MAX, find_arena, &found) < 0 || found;
}

int release_all(struct kit *k, struct sentinels *s)
{
	struct headroom room = { 0 };
	uint64_t moves;
	bool left;
	int err;

	as_agent_lock();
	do {
		moves = as.frame_moves;
		as_unlock();
		err = unshare_mapping(k, 0, KSM_ADDR_END, &room);
		if (err)
			return err;
		as_agent_lock();
	} while (as.frame_moves != moves); /* perhaps to where it had looked before */
	left = any_frames();
	if (!left) {
		sentinel_drop_all(s);
		kit_close(&k->uffd_async);
		kit_close(&k->uffd_sync);
	}
	as_unlock();
	return left ? -EBUSY : 0;
}

/* Returns the signal's value, 0 when there was none, or -errno. */
static int sleep_once(void)
{
	const uint64_t poke = 1ull << (MAILBOX_SIGNAL - 1);
	struct timespec ts = { .tv_sec = LOOK_S }, nap = { 0, 5000000 };
	siginfo_t si;
	long r = sysc4(SYS_rt_sigtimedwait, &poke, &si, &ts, sizeof(poke));

	if (r != MAILBOX_SIGNAL)
		return (int)r;
	atomic_store(&mailbox.poked, 0);
	if (si.si_code == SI_QUEUE && si.si_value.sival_int == KSM_JOIN_VALUE)
		return KSM_JOIN_VALUE;
	/* Not to this thread, but to the process, which has it blocked: it gets it back. */
	if (si.si_code != SI_TKILL) {
		sysc2(SYS_kill, mailbox.pid, MAILBOX_SIGNAL);
		sysc2(SYS_nanosleep, &nap, NULL);
	}
	return 0;
}

bool release_wait(struct link *l)
{
	uint64_t all = ~0ull, glibc = ~GLIBC_SIGNALS;
	int got = 0;

	/* Nothing is missing, so glibc's signals may come at any time. */
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &glibc, NULL, sizeof(glibc));
	while (got != KSM_JOIN_VALUE && !mailbox_ending()) {
		wait_serve_request(l);
		got = sleep_once();
		if (got == -EAGAIN)
			wait_look_for_end(l->kit);
	}
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
	return got == KSM_JOIN_VALUE && !mailbox_ending();
}

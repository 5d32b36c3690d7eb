/* SPDX-License-Identifier: MIT */
/*
 * rights.c - calls that concern one thread, in a process that has one more than it knows.
 *
 * The kernel keeps rights, namespaces and filters by thread. A program of one thread that gives
 * something up believes that nothing in it has that any more; and some namespaces may be entered
 * by a process of one thread alone. So the agent ends before such a call, and starts again after
 * it with what the caller has then.
 *
 * setuid(3) and its family are not here: the C library makes those calls in every thread, and all
 * threads have equal rights to begin with.
 */
#include "preload/rights.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>

#include "client/client.h"
#include "preload/filter.h"
#include "preload/large.h"
#include "preload/preload.h"

/* These do not concern the agent: its descriptors are its own, and the others are for children. */
#define UNSHARES_NOTHING_OF_OURS (CLONE_FILES | CLONE_SYSVSEM | CLONE_NEWPID)

bool rights_prctl(int op)
{
	switch (op) {
	case PR_SET_NO_NEW_PRIVS:
	case PR_SET_KEEPCAPS:
	case PR_SET_SECUREBITS:
	case PR_CAPBSET_DROP:
	case PR_CAP_AMBIENT:
		return true;
	default:
		return false;
	}
}

/* The program has a filter of system calls: files that it may not open are not looked at. */
static _Atomic bool filtered;
/* It has one that would kill for what we call. */
static _Atomic bool given_up;

bool rights_filtered(void)
{
	return atomic_load(&filtered);
}

bool rights_given_up(void)
{
	return atomic_load(&given_up);
}

/*
 * A filter that would kill for our calls. The interposers hand the calls on from here on, as they
 * come. They can once nothing stands on frames: frames that could not be given back (for want of
 * memory) have to be minded, come what may.
 */
static void give_up(void)
{
	atomic_store(&given_up, true);
	large_wait_by_turning();
	if (ksmc_give_up())
		__atomic_store_n(&preload.mode, PRELOAD_OFF, __ATOMIC_RELEASE);
}

long rights_filter(long nr, long a, long b, long c, long d, long e, const void *prog)
{
	if (preload_active() && !filter_passes(prog))
		give_up();
	if (preload_active() && !filter_lets_name(prog))
		ksmc_name_no_more();
	atomic_store(&filtered, true);
	return sysc5(nr, a, b, c, d, e);
}

long rights_call(long nr, long a, long b, long c, long d, long e)
{
	bool ended = preload_active() && ksmc_step_aside();
	long r = sysc5(nr, a, b, c, d, e);

	ksmc_step_back(ended);
	return r;
}

/*
 * A program that makes itself a sandbox by a user namespace goes on to give up rights, and to see
 * that it has one thread (Chromium's zygote ends otherwise). So the agent waits for an occasion.
 */
static long unshare_user(int flags)
{
	bool ended = preload_active() && ksmc_step_aside();
	long r = sysc1(SYS_unshare, flags);

	if (r)
		ksmc_step_back(ended);
	return r;
}

long rights_unshare(int flags)
{
	if (!(flags & ~UNSHARES_NOTHING_OF_OURS))
		return sysc1(SYS_unshare, flags);
	if (flags & CLONE_NEWUSER)
		return unshare_user(flags);
	return rights_call(SYS_unshare, flags, 0, 0, 0, 0);
}

EXPORT int unshare(int flags)
{
	return (int)preload_ret(rights_unshare(flags));
}

EXPORT int setns(int fd, int type)
{
	return (int)preload_ret(rights_call(SYS_setns, fd, type, 0, 0, 0));
}

/* The C library declares it nowhere: <sys/capability.h> is libcap's. */
EXPORT int capset(void *header, const void *data);

EXPORT int capset(void *header, const void *data)
{
	return (int)preload_ret(rights_call(SYS_capset, (long)header, (long)data, 0, 0, 0));
}

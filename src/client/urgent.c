/* SPDX-License-Identifier: MIT */
/*
 * urgent.c - see urgent.h.
 *
 * A real-time thread that comes to a page in the staging area waits for the agent. If that is an
 * ordinary thread, and another real-time process has its CPU, the wait is as long as the kernel's
 * throttling of those: 200 ms were measured, in the place of 0.1. So the agent takes the highest
 * priority of the program's threads for a transaction, and gives it back at its end. That way it
 * never keeps one that the program has given up.
 *
 * It looks at the threads now and then. A thread that has become urgent since can wait once.
 */
#include "client/urgent.h"

#include <sched.h>

#include "client/procdir.h"
#include "client/sysc.h"

#define LOOK_MS 100 /* between two looks */
/* ... and so many times what a look takes, for programs of many threads. */
#define LOOK_SHARE 100
#define HIGHEST 99 /* for SCHED_DEADLINE, which has no priority: of SCHED_FIFO on Linux */

static bool look_at_thread(void *arg, const char *dir, const char *name)
{
	int32_t tid = procdir_number(name);
	long policy = sysc1(SYS_sched_getscheduler, tid);
	struct sched_param p = { 0 };
	int *priority = arg;

	(void)dir;
	policy &= ~SCHED_RESET_ON_FORK;
	if (policy < 0 || policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE)
		return false;
	if (policy != SCHED_FIFO && policy != SCHED_RR)
		p.sched_priority = HIGHEST;
	else if (sysc2(SYS_sched_getparam, tid, &p))
		return false;
	if (p.sched_priority > *priority)
		*priority = p.sched_priority;
	return false;
}

static void look(struct kit *k)
{
	uint64_t now = kit_now_ms();
	int priority = 0;

	if (now < k->look_ms)
		return;
	procdir_any("/proc/self/task", look_at_thread, &priority);
	k->priority = priority;
	k->look_ms = now + LOOK_MS + LOOK_SHARE * (kit_now_ms() - now);
}

void urgent_rest(struct kit *k)
{
	struct sched_param p = { 0 };

	if (k->urgent)
		sysc3(SYS_sched_setscheduler, 0, SCHED_OTHER, &p);
	k->urgent = false;
}

bool urgent_begin(struct kit *k)
{
	struct sched_param p = { 0 };

	look(k);
	p.sched_priority = k->priority;
	if (p.sched_priority)
		k->urgent = !sysc3(SYS_sched_setscheduler, 0, SCHED_FIFO, &p);
	return k->urgent || !p.sched_priority;
}

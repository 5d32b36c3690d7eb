/* SPDX-License-Identifier: MIT */
/*
 * leaving.c - see leaving.h.
 *
 * The kernel writes for a thread that ends: to the word that pthread_join() waits for, and to
 * robust mutexes that the thread still holds. It does not wait for a userfault then, and what it
 * cannot write is lost: others wait for ever. So no page is missing or protected while a thread
 * ends. A thread says under the lock of as.h that it is about to, and the agent begins no
 * transaction until the kernel knows that thread no more. One that comes to its end in the middle
 * of a transaction waits for the lock.
 *
 * What may come between are destructors of thread-specific data. While one of them hangs nothing
 * is merged.
 */
#include "client/leaving.h"

#include <errno.h>
#include <time.h>

#include "client/kit.h"
#include "client/sysc.h"

#define YIELDS 20 /* before it sleeps: most threads end within some 50 us */
#define NAP_NS 50000

/* Forget those that have ended. Is one left? */
static bool any(void) NEEDS(as.lock)
{
	long pid = as.nr_leaving ? sysc0(SYS_getpid) : 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < as.nr_leaving; i++)
		if (sysc3(SYS_tgkill, pid, as.leaving[i], 0) != -ESRCH)
			as.leaving[n++] = as.leaving[i];
	as.nr_leaving = n;
	return n;
}

bool leaving_add(void)
{
	if (as.nr_leaving == AS_LEAVING)
		any();
	if (as.nr_leaving == AS_LEAVING)
		return false;
	as.leaving[as.nr_leaving++] = (int32_t)sysc0(SYS_gettid);
	return true;
}

void leaving_drop_self(void)
{
	int32_t self = (int32_t)sysc0(SYS_gettid);

	for (uint32_t i = 0; i < as.nr_leaving; i++)
		if (as.leaving[i] == self)
			as.leaving[i--] = as.leaving[--as.nr_leaving];
}

bool leaving_lock(unsigned int wait_ms)
{
	struct timespec ts = { 0, NAP_NS };
	uint64_t until = 0;

	as_agent_lock();
	for (int i = 0; any(); i++) {
		if (!until)
			until = kit_now_ms() + wait_ms;
		else if (kit_now_ms() > until)
			return false;
		as_unlock();
		if (i < YIELDS)
			sysc0(SYS_sched_yield);
		else
			sysc2(SYS_nanosleep, &ts, NULL);
		as_agent_lock();
	}
	return true;
}

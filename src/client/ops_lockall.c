/* SPDX-License-Identifier: MIT */
/*
 * ops_lockall.c - mlockall under a limit that fits the program, and not the program with us.
 *
 * The kernel compares the size of all mappings with RLIMIT_MEMLOCK, and the library's own are 2 to
 * 3 MiB. So where it refuses, the program's mappings are added up, compared with the limit as the
 * kernel would, and locked one by one, for which the kernel counts what is locked alone. Nothing is
 * locked that would not have been without us. What the library has mapped stays unlocked: it is
 * touched by the agent, and by calls of the program that change mappings, but holds none of the
 * program's bytes.
 *
 * mlockall() overlooks what cannot be filled, and so does this. If the program maps something in
 * another thread meanwhile it may be locked or not, as with one call.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/span.h"
#include "client/agent.h"
#include "client/as_life.h"
#include "client/client.h"
#include "client/maps.h"
#include "client/ops.h"
#include "client/sysc.h"
#include "wire/abi.h"

/* Tables of a program with frames in more places than this count as the program's. */
#define OWN_MAX 64

struct own {
	struct span v[OWN_MAX];
	int nr;
	uint64_t size; /* of the program's mappings */
	int flags;     /* of mlock2(2); -1: count only */
};

static void add(void *arg, const void *p, size_t len)
{
	struct own *o = arg;
	uint64_t start = (uintptr_t)p;

	if (p && o->nr < OWN_MAX)
		o->v[o->nr++] = (struct span){ page_down(start), page_up(start + len) };
}

/* The first area of ours that reaches into `at`; an empty one behind it if there is none. */
static struct span next_own(const struct own *o, struct span at)
{
	struct span first = { at.end, at.end };

	for (int i = 0; i < o->nr; i++)
		if (span_meets(o->v[i], at) && o->v[i].start < first.start)
			first = span_clip(o->v[i], at);
	return first;
}

static void take(void *arg, const struct maps_entry *e)
{
	struct own *o = arg;
	struct span left = { e->start, e->end };

	if (strstr(e->name, KSM_SENTINEL_NAME) || e->start >= KSM_ADDR_END)
		return;
	while (!span_empty(left)) {
		struct span own = next_own(o, left);
		uint64_t len = own.start - left.start;

		o->size += len;
		if (len && o->flags >= 0)
			sysc3(SYS_mlock2, left.start, len, o->flags);
		left.start = own.end;
	}
}

/* Bytes that may be locked. (With the right to lock more the kernel would not have refused.) */
static uint64_t limit(void)
{
	struct rlimit64 l = { 0 };

	sysc4(SYS_prlimit64, 0, RLIMIT_MEMLOCK, NULL, &l);
	return l.rlim_cur;
}

long ksmc_lock_all(int flags, const void *object, size_t len)
{
	struct own o = { .flags = -1 };
	struct as_guard g;
	long r;

	ops_enter(&g);
	o.nr = agent_own(o.v);
	add(&o, object, len);
	as_own(add, &o);
	as_leave(&g);
	r = maps_walk(0, UINT64_MAX, take, &o);
	if (r < 0 || o.size > limit())
		return -ENOMEM;
	r = flags & MCL_FUTURE ? sysc1(SYS_mlockall, flags & ~MCL_CURRENT) : 0;
	if (r)
		return r;
	o.flags = flags & MCL_ONFAULT ? MLOCK_ONFAULT : 0;
	r = maps_walk(0, UINT64_MAX, take, &o);
	return r < 0 ? -ENOMEM : 0;
}

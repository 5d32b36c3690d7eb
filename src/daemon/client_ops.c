/* SPDX-License-Identifier: MIT */
/*
 * client_ops.c - see client_ops.h.
 *
 * Workers call these while the client thread may drop the session. The descriptors stay open until
 * the engine's last reference is gone, and keep naming the address space of the client even when
 * its pid is reused; so a late call at worst looks at a process that is ending.
 *
 * A call that looks at a client's memory waits for its mmap_lock. A client can hold that for
 * seconds, and nobody is scanned meanwhile. So calls that wait are counted for the user
 * (account.h), who is left alone when they were too many: what is asked about his clients then is
 * answered as if they were gone, which ends their part of a pass. That a worker had to wait for a
 * processor counts for nothing, whether it slept in the call as well or not. On a busy machine more
 * than half of the time of calls in which workers slept was such a wait, and users whose agents and
 * workers met at an mmap_lock were left alone for seconds.
 */
#include "daemon/client_ops.h"

#include <errno.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/delay.h"
#include "daemon/session_order.h"
#include "daemon/track.h"
#include "daemon/vitals.h"

#define WAITED_MS 2       /* what took less was no wait */
#define CLOSER_LOOKS 1000 /* calls after one that was slow: asking whether we slept costs 1.3 us */

struct call {
	uint64_t begun_ms;
	long sleeps;       /* of this thread so far; -1: not asked, nor is the next */
	uint64_t delay_ns; /* of this thread so far: delay.h */
};

static long sleeps(void)
{
	struct rusage u;

	return getrusage(RUSAGE_THREAD, &u) ? -1 : u.ru_nvcsw;
}

/* False: make no call for this client now. */
static bool call_begin(struct call *c, struct session *s)
{
	c->begun_ms = clock_ms();
	if (s->state == SESSION_DEAD || account_left_alone(s->account, c->begun_ms))
		return false;
	c->sleeps = s->slow_calls > 0 ? sleeps() : -1;
	c->delay_ns = c->sleeps >= 0 ? delay_ns() : 0;
	return true;
}

/* The call took so long. Returns for how long of that the thread slept, at most. */
static uint64_t slept_ms(const struct call *c, uint64_t took_ms)
{
	if (c->sleeps < 0 || sleeps() == c->sleeps)
		return 0;
	return took_ms - u64_min((delay_ns() - c->delay_ns) / 1000000, took_ms);
}

static void call_end(const struct call *c, struct session *s)
{
	uint64_t now = clock_ms(), waited;

	if (s->slow_calls > 0)
		s->slow_calls--;
	if (now - c->begun_ms < WAITED_MS)
		return;
	s->slow_calls = CLOSER_LOOKS;
	waited = slept_ms(c, now - c->begun_ms);
	if (waited >= WAITED_MS)
		account_waited(&s->d->accounts, s->account, waited, now);
}

static int op_track(void *client, uint64_t start, uint64_t end, enum track_how how,
		    struct track_range *v, int max, uint64_t *walk_end)
{
	struct session *s = client;
	struct call c;
	int n;

	*walk_end = start;
	if (!call_begin(&c, s))
		return -ESRCH;
	session_order_check(s); /* before these pages are tracked */
	n = track_written(s->fds[CLIENT_PAGEMAP], start, end, how, v, max, walk_end);
	call_end(&c, s);
	return n;
}

/* A process whose number the daemon does not see, or that has ended, has not been seen to run. */
static uint64_t op_ran(void *client)
{
	struct session *s = client;

	return s->state == SESSION_DEAD ? 0 : clock_process_cpu_ns(s->pid);
}

static uint64_t op_changes(void *client)
{
	struct session *s = client;

	return s->state == SESSION_DEAD ? 0 : vitals_changes(&s->vitals, s->pid);
}

static int op_look(void *client, uint64_t start, uint64_t end, struct track_range *v, int max)
{
	struct session *s = client;
	struct call c;
	int n;

	if (!call_begin(&c, s))
		return -ESRCH;
	n = track_look(s->fds[CLIENT_PAGEMAP], start, end, v, max);
	call_end(&c, s);
	return n;
}

static int op_clean(void *client, uint64_t start, uint64_t end, struct track_range *v, int max,
		    uint64_t *walk_end)
{
	struct session *s = client;
	struct call c;
	int n;

	*walk_end = start;
	if (!call_begin(&c, s))
		return -ESRCH;
	n = track_clean(s->fds[CLIENT_PAGEMAP], start, end, v, max, walk_end);
	call_end(&c, s);
	return n;
}

static int op_written(void *client, uint64_t start, uint64_t end, struct track_range *v, int max,
		      uint64_t *walk_end)
{
	struct session *s = client;

	*walk_end = start;
	if (s->state == SESSION_DEAD)
		return -ESRCH;
	return track_peek(s->fds[CLIENT_PAGEMAP], start, end, v, max, walk_end);
}

static ssize_t op_read(void *client, uint64_t addr, void *buf, size_t len)
{
	struct session *s = client;
	struct call c;
	ssize_t n;

	if (!call_begin(&c, s))
		return -ESRCH;
	n = track_read(s->fds[CLIENT_MEM], addr, buf, len);
	call_end(&c, s);
	return n;
}

/*
 * The answer comes from the surveyor, for which a worker sleeps every time. That says nothing of
 * the client, and has a limit of its own (surveyor.h).
 */
static void op_nid(void *client, const uint64_t *addr, int nr, int *nids)
{
	struct session *s = client;
	struct numa_topology *t = s->d->topology;

	for (int i = 0; i < nr; i++)
		nids[i] = -1;
	if (s->state == SESSION_DEAD || account_left_alone(s->account, clock_ms()))
		return;
	for (int i = 0; i < nr; i += NUMA_MAX_QUERY)
		t->ops->page_nids(t, s->pid, addr + i,
				  nr - i < NUMA_MAX_QUERY ? nr - i : NUMA_MAX_QUERY, nids + i);
}

static uint64_t op_memory_allow(void *client, uint64_t least, uint64_t wish)
{
	struct session *s = client;

	/* Refused or not, the charge says what holds. */
	charge_some(&s->d->accounts, &s->records, s->uid, ACCOUNT_BYTES, least, wish);
	return s->records.held[ACCOUNT_BYTES];
}

/* May run on liburcu's thread: nothing but releasing. */
static void op_client_release(void *client)
{
	struct session *s = client;
	struct daemon *d = s->d;

	session_free(s);
	bell_ring(&d->client_bell,
		  CLIENTS_RETIRED); /* its frames, and perhaps the domain, can go */
}

_Static_assert(ENGINE_ASK_MAX <= NUMA_MAX_QUERY, "frames asked about at a time");
_Static_assert(ENGINE_MOVE_MAX <= NUMA_MAX_MOVE, "frames moved at a time");

const struct engine_ops client_ops = {
	.track = op_track,
	.ran = op_ran,
	.changes = op_changes,
	.look = op_look,
	.clean = op_clean,
	.written = op_written,
	.read = op_read,
	.nid = op_nid,
	.send_order = session_send_order,
	.give_back = session_give_back,
	.frame_write = arena_frame_write,
	.frame_copy = arena_frame_copy,
	.frame_nids = arena_frame_nids,
	.frame_move = arena_frame_move,
	.frames_allow = arena_frames_allow,
	.debt_allow = arena_debt_allow,
	.memory_allow = op_memory_allow,
	.frame_free = arena_frame_free,
	.frame_is_huge = arena_frame_is_huge,
	.client_release = op_client_release,
};

/* SPDX-License-Identifier: MIT */
/*
 * client_ops.c - see client_ops.h.
 *
 * Workers call these while the client thread may drop the session. The descriptors stay open until
 * the engine's last reference is gone, and keep naming the address space of the client even when
 * its pid is reused; so a late call at worst looks at a process that is ending.
 */
#include "daemon/client_ops.h"

#include <errno.h>

#include "daemon/daemon.h"
#include "daemon/session_order.h"
#include "daemon/track.h"

static int op_track(void *client, uint64_t start, uint64_t end, bool dense, struct track_range *v,
		    int max, uint64_t *walk_end)
{
	struct session *s = client;

	*walk_end = start;
	if (s->state == SESSION_DEAD)
		return -ESRCH;
	session_order_check(s); /* before these pages are tracked */
	return track_written(s->fds[CLIENT_PAGEMAP], start, end, dense, v, max, walk_end);
}

static int op_look(void *client, uint64_t start, uint64_t end, struct track_range *v, int max)
{
	struct session *s = client;

	if (s->state == SESSION_DEAD)
		return -ESRCH;
	return track_look(s->fds[CLIENT_PAGEMAP], start, end, v, max);
}

static int op_clean(void *client, uint64_t start, uint64_t end, struct track_range *v, int max,
		    uint64_t *walk_end)
{
	struct session *s = client;

	*walk_end = start;
	if (s->state == SESSION_DEAD)
		return -ESRCH;
	return track_clean(s->fds[CLIENT_PAGEMAP], start, end, v, max, walk_end);
}

static ssize_t op_read(void *client, uint64_t addr, void *buf, size_t len)
{
	struct session *s = client;

	return track_read(s->fds[CLIENT_MEM], addr, buf, len);
}

static void op_nid(void *client, const uint64_t *addr, int nr, int *nids)
{
	struct session *s = client;
	struct numa_topology *t = s->d->topology;

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

const struct engine_ops client_ops = {
	.track = op_track,
	.look = op_look,
	.clean = op_clean,
	.read = op_read,
	.nid = op_nid,
	.send_order = session_send_order,
	.frame_write = arena_frame_write,
	.frame_copy = arena_frame_copy,
	.frame_nids = arena_frame_nids,
	.frame_move = arena_frame_move,
	.frames_allow = arena_frames_allow,
	.memory_allow = op_memory_allow,
	.frame_free = arena_frame_free,
	.client_release = op_client_release,
};

// SPDX-License-Identifier: MIT
/*
 * past.c - frames of earlier daemons.
 *
 * An arena whose daemon is gone lives as long as anything of it is mapped, and nobody gives any of
 * its frames back. The next daemon merges what stands there into its own arena; but a page whose like has
 * gone finds no partner, and would keep all of the old arena for ever. It saves nothing either. So when
 * the daemon has completed some passes since this process came to it, what still lies in mappings of the
 * arenas that the process was connected to before becomes anonymous memory again.
 *
 * Not what was inherited from a process of another domain: that arena's daemon may well be alive, and parent
 * and child share the frames.
 */
#include <errno.h>
#include <sys/socket.h>

#include "client/past.h"
#include "client/agent.h"
#include "client/as.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "client/unshare.h"

#define ASK_MS 1000
/* One that had begun when we came, and three more: everybody else comes back in the first. */
#define PASSES 4
/* While orders come, the daemon is still at it; but not for ever. */
#define BUSY_PASSES 16
/* Pages may be pinned for now, memory short. */
#define RETRY_MS 10000
#define BATCH 256 /* half of the events that can wait (as.h) */

struct past_ctx {
	const struct agent *a;
	unsigned int nr;
	struct {
		uint64_t start, end;
	} v[BATCH];
};

static void find_past(void *arg, const struct maps_entry *e)
{
	struct past_ctx *c = arg;

	if (!maps_is_arena(e) || e->start < c->a->past_at || c->nr == BATCH)
		return;
	for (uint32_t i = 0; i < c->a->nr_past; i++)
		if (e->inode == c->a->past_arena[i]) {
			c->v[c->nr].start = e->start;
			c->v[c->nr++].end = e->end;
			return;
		}
}

/*
 * A few mappings; the daemon hears of them before more are given up. Returns how long until the next look, 0:
 * nothing is left.
 */
static uint64_t give_up(struct agent *a)
{
	struct past_ctx c = { .a = a };

	if (maps_walk(0, UINT64_MAX, find_past, &c) < 0)
		return RETRY_MS;
	for (unsigned int i = 0; i < c.nr; i++) {
		unshare_mapping(&a->kit, c.v[i].start, c.v[i].end);
		a->past_at = c.v[i].end;
	}
	if (c.nr)
		return 1;
	if (!a->past_at)
		return 0;
	/* Once round. What is there still could not be given up. */
	a->past_at = 0;
	return maps_walk(0, UINT64_MAX, find_past, &c) < 0 || c.nr ? RETRY_MS : 0;
}

void past_begin(struct agent *a, uint64_t arena_ino, uint64_t now_ms)
{
	uint32_t nr = 0;

	if (a->kit.arena_ino && a->nr_past == PAST_ARENAS)
		a->nr_past--; /* then one is kept, if anything lies there still */
	if (a->kit.arena_ino)
		a->past_arena[a->nr_past++] = a->kit.arena_ino;
	for (uint32_t i = 0; i < a->nr_past; i++)
		if (a->past_arena[i] != arena_ino)
			a->past_arena[nr++] = a->past_arena[i];
	a->nr_past = nr;
	a->past_due_ms = nr ? now_ms + ASK_MS : 0;
	a->past_stat = a->past_scans = a->past_at = 0;
}

bool past_ask(struct agent *a, uint64_t now_ms)
{
	struct ksm_msg_stat m = { { KSM_MSG_STAT, sizeof(m) }, a->stat_id + 1 };
	long r;

	a->past_due_ms = now_ms + ASK_MS;
	/* An answer to us must not take the place of one to the program. */
	if (atomic_load(&a->req_kind) == REQ_STAT)
		return true;
	r = sysc6(SYS_sendto, a->sock, (long)&m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
	if (r == sizeof(m))
		a->past_stat = ++a->stat_id;
	return r == sizeof(m) || r == -EAGAIN || r == -EINTR;
}

void past_answer(struct agent *a, const struct ksm_msg_stat_reply *m, uint64_t now_ms)
{
	uint64_t again;

	if (!a->past_stat || m->id < a->past_stat)
		return;
	a->past_stat = 0;
	/* The count starts at 0 again after `run` 2. */
	if (!a->past_scans || m->full_scans + PASSES < a->past_scans)
		a->past_scans = m->full_scans + PASSES;
	if (m->full_scans < a->past_scans ||
	    (a->info_due_ms && !a->past_at && m->full_scans < a->past_scans + BUSY_PASSES))
		return;
	again = give_up(a);
	a->past_due_ms = again ? now_ms + again : 0;
	if (!again)
		a->nr_past = 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * past.c - frames of earlier daemons.
 *
 * An arena whose daemon is gone lives as long as anything of it is mapped, and nobody gives any of
 * its frames back: one page keeps a whole arena. The next daemon merges what stands there into its
 * own arena; but a page whose like has gone finds no partner, would keep the old arena for ever,
 * and saves nothing. So when the daemon has completed some passes since this process came to it,
 * what still lies in mappings of the arenas to which the process was connected before becomes
 * anonymous memory again.
 *
 * What was inherited from a process of another domain is not given up: that arena's daemon may well
 * be alive, and parent and child share the frames. Nor is anything given up where the process would
 * come near a limit of its memory (headroom.h): it says so (INFO), and tries again now and then.
 */
#include "client/past.h"

#include <errno.h>

#include "base/span.h"
#include "client/as.h"
#include "client/hold.h"
#include "client/mailbox.h"
#include "client/maps.h"
#include "client/tell.h"
#include "client/unshare.h"

#define ASK_MS 1000
/* The pass that had begun when we came, and three more: everybody else comes back in the first. */
#define PASSES 4
/* While orders come, the daemon is still at it; but not for ever. */
#define BUSY_PASSES 16
/* Pages may be pinned for now, memory short. */
#define RETRY_MS 10000
/* Returned by give_up(): more is left, and the daemon is to hear of this part first. */
#define SOON_MS 1
#define BATCH (AS_EVENTS / 2) /* mappings at a time; each makes an event */

struct past_ctx {
	const struct past *p;
	unsigned int nr;
	struct span v[BATCH];
};

static bool is_past(const struct past *p, const struct maps_entry *e)
{
	if (!maps_is_arena(e))
		return false;
	for (uint32_t i = 0; i < p->nr; i++)
		if (e->file == p->file[i])
			return true;
	return false;
}

static void find_past(void *arg, const struct maps_entry *e)
{
	struct past_ctx *c = arg;

	if (e->start >= c->p->at && c->nr < BATCH && is_past(c->p, e))
		c->v[c->nr++] = (struct span){ e->start, e->end };
}

struct kept_ctx {
	const struct past *p;
	struct link *l;
};

/* All of the mapping, less what is private in it. */
static void count_kept(void *arg, const struct maps_entry *e)
{
	struct kabi_page_region v[HOLD_MAX_PAGES];
	struct kept_ctx *c = arg;
	uint64_t private = 0;

	if (!is_past(c->p, e))
		return;
	for (uint64_t at = e->start, end; at < e->end; at = end) {
		end = u64_min(at + HOLD_MAX_PAGES * KSM_PAGE_SIZE, e->end);
		for (long n = hold_private(c->l->kit, at, end, v); n > 0; n--)
		private += v[n - 1].end - v[n - 1].start;
	}
	c->l->kept_pages += (e->end - e->start - private) / KSM_PAGE_SIZE;
}

/* There is no room for more: say how much is left. */
static uint64_t keep(struct past *p, struct link *l)
{
	struct kept_ctx c = { p, l };

	l->kept_pages = 0;
	maps_walk(0, UINT64_MAX, count_kept, &c);
	l->short_of_memory = true;
	tell_info_later(l);
	p->at = 0;
	return RETRY_MS;
}

/* Give up to BATCH mappings up. Returns how long until the next look, 0: nothing is left. */
static uint64_t give_up(struct past *p, struct link *l)
{
	struct past_ctx c = { .p = p };
	struct headroom room = { 0 };

	if (maps_walk(0, UINT64_MAX, find_past, &c) < 0)
		return RETRY_MS;
	for (unsigned int i = 0; i < c.nr; i++) {
		if (unshare_mapping(l->kit, c.v[i].start, c.v[i].end, &room) && !room.credit)
			return keep(p, l);
		p->at = c.v[i].end;
	}
	if (c.nr)
		return SOON_MS;
	if (!p->at)
		return 0;
	/* Once round. What is there still could not be given up. */
	p->at = 0;
	return maps_walk(0, UINT64_MAX, find_past, &c) < 0 || c.nr ? RETRY_MS : 0;
}

void past_begin(struct past *p, uint64_t was, uint64_t file)
{
	uint32_t nr = 0;

	if (was && p->nr == PAST_ARENAS)
		p->nr--; /* then one is kept, if anything lies there still */
	if (was)
		p->file[p->nr++] = was;
	for (uint32_t i = 0; i < p->nr; i++)
		if (p->file[i] != file)
			p->file[nr++] = p->file[i];
	p->nr = nr;
	p->due_ms = nr ? kit_now_ms() + ASK_MS : 0;
	p->stat = p->scans = p->at = 0;
}

bool past_ask(struct past *p, struct link *l)
{
	int r;

	p->due_ms = kit_now_ms() + ASK_MS;
	/* An answer to this must not take the place of one to the program. */
	if (mailbox_kind() == REQ_STAT || mailbox_kind() == REQ_PASSES)
		return true;
	r = link_ask(l, 0);
	if (!r)
		p->stat = l->stat_id;
	return !r || r == -EAGAIN || r == -EINTR;
}

void past_answer(struct past *p, struct link *l, const struct ksm_msg_stat_reply *m)
{
	uint64_t again;

	if (!p->stat || m->id < p->stat)
		return;
	p->stat = 0;
	/* The count starts at 0 again after `run` 2. */
	if (!p->scans || m->full_scans + PASSES < p->scans)
		p->scans = m->full_scans + PASSES;
	if (m->full_scans < p->scans ||
	    (l->info_due_ms && !p->at && m->full_scans < p->scans + BUSY_PASSES))
		return;
	again = give_up(p, l);
	p->due_ms = again ? kit_now_ms() + again : 0;
	if (again)
		return;
	p->nr = 0;
	l->kept_pages = 0;
	tell_short(l, false);
}

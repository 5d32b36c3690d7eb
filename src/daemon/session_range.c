/* SPDX-License-Identifier: MIT */
/* session_range.c - see session_range.h. Changes are numbered without a gap. */
#include "daemon/session_range.h"

#include <errno.h>

#include "base/clock.h"
#include "base/span.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"
#include "daemon/track.h"

/*
 * How much is looked at in one call. Of memory where nothing was found the next piece is so much
 * larger, if looking took no time: a client may name terabytes that are not there. Otherwise the
 * pieces stay small: the kernel holds the client's mmap_lock meanwhile.
 */
#define CLEAN_BYTES (128ull << 20) /* 0.3 ms where all pages are there */
#define CLEAN_GROWTH 4
#define CLEAN_QUICK_NS 100000
#define CLEAN_RANGES 256 /* of one call */

static bool check_seq(struct session *s, uint64_t seq)
{
	if (seq == s->seq + 1)
		return true;
	client_fail(s, ERR_PROTOCOL, EPROTO, "message number %llu does not follow %llu",
		    (unsigned long long)seq, (unsigned long long)s->seq);
	return false;
}

/* Takes effect after the engine has been told: an order may carry an older number than what the
 * engine knows, never a newer one. */
static void took_in(struct session *s, uint64_t seq, int err)
{
	if (err) {
		client_fail(s, err == -ENOMEM ? ERR_RESOURCES : ERR_PROTOCOL, -err,
			    "message number %llu cannot be carried out", (unsigned long long)seq);
		return;
	}
	s->seq = seq;
	clients_epochs_soon(s->clients);
}

static bool check_range(struct session *s, const struct ksm_msg_range *r)
{
	if (!((r->start | r->end) & (KSM_PAGE_SIZE - 1)) && r->start < r->end &&
	    r->end <= KSM_ADDR_END)
		return true;
	client_fail(s, ERR_PROTOCOL, EINVAL, "not a range: %#llx to %#llx",
		    (unsigned long long)r->start, (unsigned long long)r->end);
	return false;
}

/*
 * The scan may have come to a range between what the client did and what it says here. Then the
 * engine has taken the pages that are there now for those of before, which this message makes it
 * forget, and tracking does not report these again. Only the page tables know them.
 */
static void see_clean(struct session *s, const struct ksm_msg_range *r)
{
	struct track_range v[CLEAN_RANGES];
	struct span left = { r->start, r->end };
	uint64_t piece = CLEAN_BYTES, next;

	while (s->state != SESSION_DEAD && !span_empty(left)) {
		uint64_t begin = clock_thread_cpu_ns();
		int n = track_clean(s->fds[CLIENT_PAGEMAP], left.start,
				    left.start + u64_min(piece, span_len(left)), v, CLEAN_RANGES,
				    &next);

		piece = !n && clock_thread_cpu_ns() - begin < CLEAN_QUICK_NS ?
				piece * CLEAN_GROWTH :
				CLEAN_BYTES;
		if (n > 0)
			engine_see_clean(s->mm, v, n);
		/* Out of memory, or the process is ending: what is missed is merged when it is
		 * written. */
		if (n < 0 || next <= left.start)
			return;
		left.start = next;
	}
}

void session_range_add(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (!check_seq(s, r->seq) || !check_range(s, r))
		return;
	took_in(s, r->seq, engine_region_add(s->mm, r->start, r->end));
	see_clean(s, r);
	bell_ring(&s->d->scan_bell, SCAN_HINT);
}

void session_range_del(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (check_seq(s, r->seq) && check_range(s, r))
		took_in(s, r->seq, engine_region_del(s->mm, r->start, r->end));
}

void session_range_forget(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (!check_seq(s, r->seq) || !check_range(s, r))
		return;
	took_in(s, r->seq, engine_region_forget(s->mm, r->start, r->end));
	see_clean(s, r);
}

void session_range_adopt(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_adopt *a = &msg->adopt;

	if (!check_seq(s, a->seq))
		return;
	if ((a->addr & (KSM_PAGE_SIZE - 1)) || a->addr >= KSM_ADDR_END || !a->nr_pages ||
	    a->nr_pages > (KSM_ADDR_END - a->addr) / KSM_PAGE_SIZE) {
		client_fail(s, ERR_PROTOCOL, EINVAL, "not a range: %#llx, %u pages",
			    (unsigned long long)a->addr, a->nr_pages);
		return;
	}
	took_in(s, a->seq, engine_adopt(s->mm, a->addr, a->nr_pages, a->frame));
	/* A child that was forked before everything was unmerged, and says so only now. */
	if (s->state == SESSION_READY && !s->unmerging &&
	    knob_get(&s->d->knobs, KNOB_RUN) == KSM_RUN_UNMERGE)
		session_want(s, WANT_UNMERGE);
}

/* SPDX-License-Identifier: MIT */
/*
 * session_range.c - see session_range.h. Changes are numbered without a gap.
 *
 * A message of 40 bytes may name terabytes, and the thread that carries it out serves everybody. So
 * a change is done in parts of a millisecond or so. What is not done within SLICE_MS goes on turn
 * by turn, after everybody else was served; all such work together gets SLICE_MS of a turn. The
 * client's further messages wait in its socket meanwhile, so it pays with its own time, and changes
 * keep their order. That a range is changed in parts is as if the client had named the parts one
 * after the other; the number of the message takes effect after the last.
 *
 * Done at once, an ADOPT took 3 s of this thread, and 369 MB of records. An ADOPT of frames that do
 * not exist leaves no record now (the engine's client.c). Regions are limited to as many as a
 * process can have mappings. What a range holds is looked at by workers (the engine's unseen.h).
 */
#include "daemon/session_range.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/span.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"

#define SLICE_MS 2
#define ADOPT_PAGES 2048 /* of a part: 0.5 ms */
#define FEW_REGIONS 4096 /* not worth asking for */
#define ASK_AGAIN_MS 1000
#define SYSTEM_MAX_MAP_COUNT "/proc/sys/vm/max_map_count"

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

static int add_part(struct session *s, struct range_work *w)
{
	struct span at = engine_part_to_add(s->mm, w->left);

	w->left.start = at.end;
	return engine_region_add(s->mm, at.start, at.end);
}

static int drop_part(struct session *s, struct range_work *w)
{
	struct span at = engine_part(s->mm, w->left);

	w->left.start = at.end;
	return w->type == KSM_MSG_DEL ? engine_region_del(s->mm, at.start, at.end) :
					engine_region_forget(s->mm, at.start, at.end);
}

static int adopt_part(struct session *s, struct range_work *w)
{
	uint32_t nr = (uint32_t)u64_min(span_len(w->left) / KSM_PAGE_SIZE, ADOPT_PAGES);
	uint64_t addr = w->left.start;
	uint32_t frame = w->frame;

	w->left.start += nr * (uint64_t)KSM_PAGE_SIZE;
	w->frame += nr;
	return engine_adopt(s->mm, addr, nr, frame);
}

/* Tell the engine of one part. */
static int tell_part(struct session *s, struct range_work *w)
{
	if (w->type == KSM_MSG_ADD)
		return add_part(s, w);
	return w->type == KSM_MSG_ADOPT ? adopt_part(s, w) : drop_part(s, w);
}

/* One part of the change. False: it is done, or the client was dropped. */
static bool advance(struct session *s)
{
	struct range_work *w = &s->work;
	int err;

	err = tell_part(s, w);
	if (!err && !span_empty(w->left))
		return true;
	took_in(s, w->seq, err);
	return false;
}

/* False: there is more to do at that time. */
static bool work_until(struct session *s, uint64_t until_ms)
{
	while (advance(s))
		if (clock_ms() >= until_ms)
			return false;
	return true;
}

static void finish(struct session *s)
{
	uint32_t type = s->work.type;

	s->work.type = 0;
	if (s->state == SESSION_DEAD)
		return;
	if (type == KSM_MSG_ADD)
		bell_ring(&s->d->scan_bell, SCAN_HINT);
	/* A child that was forked before everything was unmerged, and says so only now. */
	if (type == KSM_MSG_ADOPT && s->state == SESSION_READY && !s->unmerging &&
	    !s->unmerge_refused && knob_get(&s->d->knobs, KNOB_RUN) == KSM_RUN_UNMERGE)
		session_want(s, WANT_UNMERGE);
}

static void queue(struct session *s)
{
	TAILQ_INSERT_TAIL(&s->clients->working, s, work.link);
	s->work.queued = true;
}

/* Begin a change of `at`; what takes long is queued. */
static void change(struct session *s, uint32_t type, uint64_t seq, struct span at, uint32_t frame)
{
	s->work = (struct range_work){ .type = type, .seq = seq, .left = at, .frame = frame };
	if (work_until(s, clock_ms() + SLICE_MS)) {
		finish(s);
		return;
	}
	queue(s);
	session_listen(s);
	loop_timer_set(&s->clients->work_timer, 0);
}

/* Each in its turn, for SLICE_MS in all. */
static void go_on(struct loop_timer *t, uint64_t now)
{
	struct clients *c = container_of(t, struct clients, work_timer);
	struct session *s;

	while ((s = TAILQ_FIRST(&c->working)) && clock_ms() <= now + SLICE_MS) {
		TAILQ_REMOVE(&c->working, s, work.link);
		s->work.queued = false;
		if (work_until(s, now + SLICE_MS)) {
			finish(s);
			session_listen(s);
		} else {
			queue(s);
		}
	}
	if (s)
		loop_timer_set(t, 0);
}

void session_range_init(struct clients *c)
{
	loop_timer_add(&c->loop, &c->work_timer, go_on);
}

/* ---- messages ---- */

static uint32_t ask_max_map_count(void)
{
	FILE *f = fopen(SYSTEM_MAX_MAP_COUNT, "re");
	uint32_t max = 0;

	if (f && fscanf(f, "%u", &max) != 1)
		max = 0;
	if (f)
		fclose(f);
	return max ? max : UINT32_MAX;
}

/* It is asked for once a second at most: each time costs as much as some messages. */
static uint32_t max_regions(struct clients *c)
{
	if (!c->max_map_count || clock_ms() - c->asked_ms > ASK_AGAIN_MS) {
		c->max_map_count = ask_max_map_count();
		c->asked_ms = clock_ms();
	}
	return c->max_map_count;
}

/* Regions do not touch, so each has a mapping of its own; the client said how many it can have. */
static bool check_regions(struct session *s)
{
	uint32_t nr = engine_nr_regions(s->mm);

	if (nr < FEW_REGIONS || nr <= max_regions(s->clients))
		return true;
	client_fail(s, ERR_PROTOCOL, EINVAL, "%u regions are more than a process has mappings", nr);
	return false;
}

void session_range_add(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (check_seq(s, r->seq) && check_range(s, r) && check_regions(s))
		change(s, KSM_MSG_ADD, r->seq, (struct span){ r->start, r->end }, 0);
}

void session_range_del(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (check_seq(s, r->seq) && check_range(s, r))
		change(s, KSM_MSG_DEL, r->seq, (struct span){ r->start, r->end }, 0);
}

void session_range_forget(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (check_seq(s, r->seq) && check_range(s, r))
		change(s, KSM_MSG_FORGET, r->seq, (struct span){ r->start, r->end }, 0);
}

void session_range_adopt(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_adopt *a = &msg->adopt;
	uint64_t end = a->addr + a->nr_pages * (uint64_t)KSM_PAGE_SIZE;

	if (!check_seq(s, a->seq))
		return;
	if ((a->addr & (KSM_PAGE_SIZE - 1)) || a->addr >= KSM_ADDR_END || !a->nr_pages ||
	    a->nr_pages > (KSM_ADDR_END - a->addr) / KSM_PAGE_SIZE) {
		client_fail(s, ERR_PROTOCOL, EINVAL, "not a range: %#llx, %u pages",
			    (unsigned long long)a->addr, a->nr_pages);
		return;
	}
	change(s, KSM_MSG_ADOPT, a->seq, (struct span){ a->addr, end }, a->frame);
}

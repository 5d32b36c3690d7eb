/* SPDX-License-Identifier: MIT */
/*
 * tell.c - tell the daemon of ranges and frames.
 *
 * The queue of as.h says what changed; what is true of those addresses is looked up when the event
 * is passed on. It may be less than when the event was made, and then another event follows. The
 * daemon must know a range as offered before it hears of frames in it, so ADOPT sends the ADD that
 * is missing; and it must know of a frame before it gives that frame to other contents.
 *
 * The lock is dropped before anything is sent, because sending may wait for the daemon.
 */
#include "client/tell.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/span.h"
#include "client/as.h"
#include "client/as_names.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/as_unseen.h"
#include "client/aside.h"
#include "client/hold.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "client/wait.h"
#include "client/dumps.h"
#include "wire/kernel_abi.h"

/*
 * Facts about this process are worth a message once it has been quiet for so long. To collect them
 * takes 0.4 us for each mapping, and where processors are busy there is a quiet third of a second
 * again and again while pages are merged: with 20,000 mappings that was a tenth of the time that
 * all of it took. So it is quiet for so many times what the last message took, too.
 */
#define INFO_DELAY_MS 300
#define INFO_DELAY_TIMES 32u
#define INFO_DELAY_MAX_MS 5000u
/* Forks are told of together. */
#define FORKS_DELAY_MS 1000
/* So long the agent counts pages for a message; it does nothing else meanwhile. */
#define COUNT_MS 10
/* Ranges that are looked up at a time with the lock held. */
#define PARTS 32u

bool tell_message(struct link *l, const void *m, size_t len)
{
	for (;;) {
		int r = link_send(l, m, len);

		if (!r)
			return true;
		if (r == -EAGAIN) {
			if (wait_for(l, POLLOUT, WAIT_FOREVER) & (POLLERR | POLLHUP))
				return false;
		} else if (r != -EINTR) {
			return false;
		}
	}
}

bool tell_stat(struct link *l, uint64_t *id)
{
	struct ksm_msg_stat m = { { KSM_MSG_STAT, sizeof(m) }, ++l->stat_id, 0, 0 };

	*id = m.id;
	return tell_message(l, &m, sizeof(m));
}

static bool send_range(struct link *l, uint32_t type, struct span s)
{
	struct ksm_msg_range m = { { type, sizeof(m) }, ++l->sent_seq, s.start, s.end };

	return tell_message(l, &m, sizeof(m));
}

/* ---- facts ---- */

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts = { 0 };

	sysc2(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * Pages in use in [start, end): present or swapped out; without those of files, and so without
 * frames, if `own`. Empty address space costs the kernel next to nothing. `until_ms`: who has ever
 * more of it in pieces is counted up to there.
 */
static uint64_t pages_in_use(const struct kit *k, uint64_t start, uint64_t end, bool own,
			     uint64_t until_ms)
{
	struct kabi_page_region *v = (struct kabi_page_region *)k->buf;
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.end = end,
		.vec = (uintptr_t)v,
		.vec_len = 2 * KIT_ORDER_BYTES / sizeof(*v),
		.category_inverted = own ? KABI_PAGE_IS_FILE : 0,
		.category_mask = own ? KABI_PAGE_IS_FILE : 0,
		.category_anyof_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_SWAPPED,
		.return_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_SWAPPED,
	};
	uint64_t pages = 0;

	while (start < end && kit_now_ms() <= until_ms) {
		long n;

		scan.start = start;
		n = sysc3(SYS_ioctl, k->pagemap, KABI_PAGEMAP_SCAN, &scan);
		for (long i = 0; i < n; i++)
			pages += (v[i].end - v[i].start) >> KSM_PAGE_SHIFT;
		if (n < 0 || scan.walk_end <= start)
			break;
		start = scan.walk_end;
	}
	return pages;
}

/* The first range that ends behind `at` and is left out, with the reasons. False: there is none. */
static bool next_left_out(uint64_t at, struct as_range *r)
{
	bool found = false;

	as_agent_lock();
	for (const struct as_range *i = as_first(at); i && !found; i = as_next(i)) {
		*r = *i;
		if ((r->flags & AS_WANTED) && r->prot != (PROT_READ | PROT_WRITE))
			r->left_out |= 1u << KSM_LEFT_PROT;
		found = r->left_out;
	}
	as_unlock();
	return found;
}

/*
 * What matters is memory that is there, and not address space. What stands on frames is merged,
 * also when the program has made it read-only since.
 */
static void count_left_out(const struct kit *k, uint64_t left_out[KSM_LEFT_CLIENT_NR])
{
	uint64_t until_ms = kit_now_ms() + COUNT_MS;
	struct as_range r;

	for (uint64_t at = 0; k->buf && next_left_out(at, &r); at = r.end) {
		bool own = r.left_out == 1u << KSM_LEFT_PROT;
		uint64_t pages = pages_in_use(k, r.start, r.end, own, until_ms);

		for (int why = 0; why < KSM_LEFT_CLIENT_NR; why++)
			if (r.left_out & 1u << why)
				left_out[why] += pages;
	}
}

bool tell_info(struct link *l)
{
	struct ksm_msg_info m = { { KSM_MSG_INFO, sizeof(m) }, 0, 0, 0, 0, { 0 } };

	m.cpu_ns = thread_cpu_ns();
	as_agent_lock();
	m.flags = (as.merge_any ? KSM_INFO_MERGE_ANY : 0) |
		  (l->short_of_memory ? KSM_INFO_SHORT : 0);
	m.nameless = as_names_lost();
	as_unlock();
	count_left_out(l->kit, m.left_out);
	m.left_out[KSM_LEFT_KEPT] = l->kept_pages;
	m.nr_vmas = maps_count();
	aside_look(l->kit);
	dumps_look();
	l->info_due_ms = 0;
	if (l->kit->buf)
		sysc3(SYS_madvise, l->kit->buf, 2 * KIT_ORDER_BYTES, MADV_DONTNEED);
	l->info_ns = thread_cpu_ns() - m.cpu_ns;
	return tell_message(l, &m, sizeof(m));
}

bool tell_forks(struct link *l)
{
	struct ksm_msg_forks m = { { KSM_MSG_FORKS, sizeof(m) }, 0, 0 };
	uint64_t now;

	if (!atomic_load(&as.nr_forks))
		return true;
	now = kit_now_ms();
	if (!l->forks_due_ms)
		l->forks_due_ms = now + FORKS_DELAY_MS;
	if (now < l->forks_due_ms)
		return true;
	l->forks_due_ms = 0;
	m.nr = atomic_exchange(&as.nr_forks, 0); /* the next one wakes the agent again */
	return tell_message(l, &m, sizeof(m));
}

void tell_forks_drop(void)
{
	atomic_store(&as.nr_forks, 0);
}

void tell_info_later(struct link *l)
{
	uint64_t delay = u64_min(l->info_ns / 1000000 * INFO_DELAY_TIMES, INFO_DELAY_MAX_MS);

	l->info_due_ms = kit_now_ms() + u64_max(delay, INFO_DELAY_MS);
}

void tell_short(struct link *l, bool is)
{
	if (l->short_of_memory == is)
		return;
	l->short_of_memory = is;
	tell_info_later(l);
}

/* ---- frames that stand already ---- */

struct adopt_ctx {
	struct link *l;
	struct span range;
	/*
	 * The daemon has heard of everything in `told` that was offered when the events were taken,
	 * and of all of `added`.
	 */
	struct span told, added;
	bool ok;
};

static bool within(struct span inner, struct span outer)
{
	return inner.start >= outer.start && inner.end <= outer.end;
}

/*
 * Find the next part of `rest` in which the daemon has to know of frames: what is offered, and
 * what a program thread is withdrawing at the moment, where frames stand until that is done. *add
 * is the range of which the daemon has to be told first, empty if it knows. It may have heard
 * otherwise, or nothing, while events wait that were made after those that were taken. (If the
 * range ends in between, the event for that is under way.)
 */
static bool next_adoptable(const struct adopt_ctx *c, struct span rest, struct span *part,
			   struct span *add)
{
	bool found = false;

	*add = (struct span){ 0, 0 };
	as_agent_lock();
	for (const struct as_range *r = as_first(rest.start); !found && r && r->start < rest.end;
	     r = as_next(r)) {
		struct span whole = { r->start, r->end };
		bool leaves = r->flags & AS_UNSHARING;

		found = as_offered(r) || leaves;
		*part = span_clip(whole, rest);
		if (!found || within(*part, c->added) ||
		    (!leaves && !as.nr_events && !as.overflow && within(*part, c->told)))
			continue;
		*add = span_clip(whole, c->range);
	}
	as_unlock();
	return found;
}

/* Say that the pages of s stand on the frames from `offset` of the arena's file. */
static bool send_adopt(struct link *l, struct span s, uint64_t offset)
{
	struct ksm_msg_adopt m = { { KSM_MSG_ADOPT, sizeof(m) }, 0, s.start, 0, 0 };

	if (span_empty(s))
		return true;
	m.seq = ++l->sent_seq;
	m.nr_pages = (uint32_t)(span_len(s) >> KSM_PAGE_SHIFT);
	m.frame = (uint32_t)(offset >> KSM_PAGE_SHIFT);
	return tell_message(l, &m, sizeof(m));
}

/*
 * Tell of the frames in one part of a mapping; `offset` is the file's at its start. Pages that were
 * written since are private, and the daemon keeps no frame for them. (A page that is written from
 * now on is found by tracking. Where the kernel cannot say, the page is taken for a frame, which is
 * the safe side.)
 */
static bool adopt_part(struct link *l, struct span part, uint64_t offset)
{
	struct kabi_page_region v[HOLD_MAX_PAGES];
	uint64_t base = part.start - offset;

	for (uint64_t at = part.start, stop; at < part.end; at = stop) {
		long n;

		stop = u64_min(at + HOLD_MAX_PAGES * KSM_PAGE_SIZE, part.end);
		n = hold_private(l->kit, at, stop, v);
		for (long i = 0; i < n; at = v[i++].end)
			if (!send_adopt(l, (struct span){ at, v[i].start }, at - base))
				return false;
		if (!send_adopt(l, (struct span){ at, stop }, at - base))
			return false;
	}
	return true;
}

/*
 * One mapping. A mapping of frames can reach beyond what is offered: pages that were written and
 * withdrawn since are private, and stay in it.
 */
static void adopt_mapping(void *arg, const struct maps_entry *e)
{
	struct adopt_ctx *c = arg;
	struct span rest = span_clip((struct span){ e->start, e->end }, c->range), part, add;

	if (!maps_is_arena(e) || e->file != c->l->kit->arena_file || e->shared)
		return;
	for (; c->ok && !span_empty(rest) && next_adoptable(c, rest, &part, &add);
	     rest.start = part.end) {
		if (!span_empty(add)) {
			c->ok = send_range(c->l, KSM_MSG_ADD, add);
			c->added = add;
		}
		if (c->ok)
			c->ok = adopt_part(c->l, part, e->offset + (part.start - e->start));
	}
}

/* Tell of the frames that stand in a range already. `told`: see adopt_ctx. */
static bool adopt_range(struct link *l, struct span range, struct span told)
{
	struct adopt_ctx c = { .l = l, .range = range, .told = told, .ok = true };

	/* Without this check, frames that were not seen would be taken for not there. */
	return maps_walk_in(l->kit->maps, range.start, range.end, adopt_mapping, &c) >= 0 && c.ok;
}

/* ---- ranges ---- */

/*
 * Track up to PARTS offered parts of `rest`. Returns how many; rest->start moves to where the next
 * call goes on. `afresh`: forget what tracking knows, so that every page shows as written. The
 * daemon that armed it may be gone, and another one would never see pages that do not change.
 */
static size_t track_parts(struct link *l, struct span *rest, bool afresh, struct span part[PARTS])
{
	uint64_t at = rest->start;
	size_t nr = 0;

	as_agent_lock();
	for (const struct as_range *r = as_first(at); r && r->start < rest->end && nr < PARTS;
	     r = as_next(r)) {
		at = r->end;
		if (as_offered(r))
			part[nr++] = span_clip((struct span){ r->start, r->end }, *rest);
	}
	rest->start = nr < PARTS ? rest->end : at;
	for (size_t i = 0; i < nr; i++) {
		if (afresh)
			uffd_unregister(l->kit->uffd_async, part[i].start, part[i].end);
		uffd_register(l->kit->uffd_async, part[i].start, part[i].end,
			      UFFDIO_REGISTER_MODE_WP);
	}
	as_unlock();
	return nr;
}

/* Track what is offered of `rest` by now, and say so if `add`. */
static bool offer_parts(struct link *l, struct span rest, bool add, bool afresh)
{
	struct span part[PARTS];

	while (!span_empty(rest)) {
		size_t nr = track_parts(l, &rest, afresh, part);

		for (size_t i = 0; add && i < nr; i++)
			if (!send_range(l, KSM_MSG_ADD, part[i]))
				return false;
	}
	return true;
}

/* `told`: see adopt_ctx. `afresh`: see track_parts(). */
static bool pass_on(struct link *l, const struct as_event *e, struct span told, bool afresh)
{
	struct span s = { e->start, e->end };

	switch (e->type) {
	case KSM_MSG_ADOPT:
		return adopt_range(l, s, told);
	case KSM_MSG_DEL:
		return send_range(l, KSM_MSG_DEL, s);
	case KSM_MSG_FORGET:
		return send_range(l, KSM_MSG_FORGET, s) && offer_parts(l, s, false, afresh);
	default:
		as_unseen_ask(l->kit->maps, s);
		return offer_parts(l, s, true, afresh);
	}
}

bool tell_events(struct link *l)
{
	static struct as_event batch[AS_EVENTS]; /* the agent's only; too large for its stack */
	uint32_t nr;

	for (;;) {
		struct span told = { 0, 0 };

		as_agent_lock();
		if (as.overflow) {
			as_unlock();
			return false;
		}
		nr = as.nr_events;
		memcpy(batch, as.event, nr * sizeof(batch[0]));
		as.nr_events = 0;
		as_unlock();
		if (!nr)
			return true;
		tell_info_later(l);
		for (uint32_t i = 0; i < nr; i++) {
			if (!pass_on(l, &batch[i], told, false))
				return false;
			if (batch[i].type == KSM_MSG_ADD)
				told = (struct span){ batch[i].start, batch[i].end };
			else if (batch[i].type != KSM_MSG_ADOPT)
				told.end = 0;
		}
	}
}

bool tell_all(struct link *l)
{
	struct as_event all = { KSM_MSG_ADD, 0, KSM_ADDR_END };

	as_agent_lock();
	as.nr_events = 0;
	as.overflow = false;
	as_unlock();
	if (!pass_on(l, &all, (struct span){ 0, 0 }, true))
		return false;
	all.type = KSM_MSG_ADOPT;
	return pass_on(l, &all, (struct span){ all.start, all.end }, true);
}

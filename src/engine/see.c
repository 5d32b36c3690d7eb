/* SPDX-License-Identifier: MIT */
/*
 * see.c - what change tracking says of pages, and what that means for each.
 *
 * Safety of what tracking says. The call runs without the lock and consumes what it reports, so its
 * answer can be older than a message taken in meanwhile, and must then not be believed where it
 * could hurt. Three rules:
 *
 * (1) No order is under way in a stretch while a worker tracks it: blocks with an order under way
 * are left out, and engine_flush() leaves out the stretch being tracked (glance.c). So "anonymous"
 * on a merged page means that it was written after the merge.
 *
 * (2) Where DEL, FORGET or ADOPT touched the stretch meanwhile, the worker concludes nothing but
 * "look at this page again". Above all it gives up no site, because the frame might still be
 * mapped.
 *
 * (3) What an ADOPT says is older than the moment when the engine takes it in, and tracking may
 * have shown, and spent, a write in between. So adopted pages, and sites whose report was not
 * believed, stay pending until see_sites() looks at what is there now, which arms nothing. It obeys
 * the first two rules.
 *
 * What tracking did not look at any more (TRACK_UNKNOWN) is looked at here, and where that fails it
 * is treated like a page that raced.
 *
 * A look for pages that tracking will not report (unseen.h) tells only of pages that are not known:
 * of the others tracking knows better.
 *
 * engine_look() asks what tracking would say, and obeys the first two rules. It takes pages off
 * their frames, and zero pages out of the count, and leaves all else, such as how old a page is, to
 * tracking, which will report them again. So a pass finds the same whether somebody looked or not.
 */
#include <errno.h>

#include "engine/see.h"
#include "engine/block.h"
#include "engine/huge.h"
#include "engine/mm.h"
#include "engine/page.h"
#include "engine/settle.h"
#include "engine/glance.h"

/* --- a page --- */

static void see_anon(struct engine *e, uint32_t bi, unsigned int slot, bool raced) NEEDS(e->lock)
{
	struct rmap_block *b = rmap_block(e, bi);

	switch (rmap_state(b, slot)) {
	case RMAP_ZEROED:
		page_set(e, bi, slot, RMAP_ABSENT, 0);
		/* fall through */
	case RMAP_ABSENT:
		page_set(e, bi, slot, RMAP_VOLATILE, 0);
		page_pend(e, bi, slot, false);
		break;
	case RMAP_ORDERED:
		/* Sent: impossible here (rule 1). Not sent: the page is too busy to be merged. */
		if (b->inflight & bit64(slot))
			break;
		/* fall through */
	case RMAP_UNSTABLE:
	case RMAP_WAITING:
		page_set(e, bi, slot, RMAP_VOLATILE, 0);
		/* fall through */
	case RMAP_VOLATILE:
		page_age(b, slot);
		page_pend(e, bi, slot, true);
		break;
	case RMAP_MERGED:
		if (raced) {
			page_pend(e, bi, slot, false);
			break;
		}
		page_set(e, bi, slot, RMAP_COWED, 0);
		e->total.cow_breaks++;
		block_mm(b)->cow_breaks++;
		/* fall through */
	case RMAP_COWED:
	case RMAP_FOREIGN:
		page_age(b, slot);
		page_pend(e, bi, slot, true);
		break;
	default:
		break;
	}
}

static void see_file(struct engine *e, uint32_t bi, unsigned int slot, bool raced) NEEDS(e->lock)
{
	switch (rmap_state(rmap_block(e, bi), slot)) {
	case RMAP_MERGED:
	case RMAP_ORDERED:
	case RMAP_COWED: /* still in the mapping of its frame */
	case RMAP_FOREIGN:
		break;
	case RMAP_ZEROED:
		page_set(e, bi, slot, RMAP_ABSENT, 0);
		/* fall through */
	default:
		if (raced)
			break;
		page_set(e, bi, slot, RMAP_FOREIGN, 0);
		page_pend(e, bi, slot, false);
	}
}

static void see_zero(struct engine *e, uint32_t bi, unsigned int slot, bool raced) NEEDS(e->lock)
{
	struct rmap_block *b = rmap_block(e, bi);

	switch (rmap_state(b, slot)) {
	case RMAP_ABSENT:
	case RMAP_ZEROED:
	case RMAP_COWED:
		break;
	case RMAP_MERGED:
		if (raced)
			page_pend(e, bi, slot, false);
		else
			page_set(e, bi, slot, RMAP_ABSENT, 0);
		break;
	case RMAP_ORDERED:
		if (b->inflight & bit64(slot))
			break;
		/* fall through */
	default: /* nothing to gain from it any more */
		page_set(e, bi, slot, RMAP_ABSENT, 0);
	}
}

/* A page in a huge page, of which nobody knows whether it was written; again: hash it anew. */
static void see_huge(struct engine *e, uint32_t bi, unsigned int slot, bool again, bool raced)
	NEEDS(e->lock)
{
	switch (rmap_state(rmap_block(e, bi), slot)) {
	case RMAP_UNSTABLE:
	case RMAP_WAITING:
		if (again)
			page_pend(e, bi, slot, false);
		break;
	case RMAP_VOLATILE:
	case RMAP_ORDERED:
		break;
	case RMAP_COWED:
	case RMAP_FOREIGN: /* no longer in a mapping of frames */
		if (raced)
			break;
		page_set(e, bi, slot, RMAP_ABSENT, 0);
		/* fall through */
	default:
		see_anon(e, bi, slot, raced);
	}
}

/*
 * A page of a huge page that is mapped singly now. It was not armed, so that it is reported does
 * not say that it was written.
 */
static void see_split(struct engine *e, uint32_t bi, unsigned int slot, bool raced) NEEDS(e->lock)
{
	switch (rmap_state(rmap_block(e, bi), slot)) {
	case RMAP_UNSTABLE:
	case RMAP_WAITING:
	case RMAP_VOLATILE:
		page_pend(e, bi, slot, false);
		break;
	case RMAP_ORDERED:
		break;
	default:
		see_anon(e, bi, slot, raced);
	}
}

static void see_page(struct mm_slot *mm, uint32_t bi, unsigned int slot, enum track_kind kind,
		     bool raced) NEEDS(mm->e->lock)
{
	if (kind == TRACK_ANON || kind == TRACK_UNKNOWN)
		see_anon(mm->e, bi, slot, raced || kind == TRACK_UNKNOWN);
	else if (kind == TRACK_FILE)
		see_file(mm->e, bi, slot, raced);
	else
		see_zero(mm->e, bi, slot, raced);
}

/* --- ranges --- */

/* What a worker saw in a glance, and whether change tracking said so. */
struct sight {
	const struct glance *t;
	bool tracked;
};

/* What a look at a block says of huge pages. */
enum huge { NO_HUGE, HUGE, HUGE_AGAIN, SPLIT };

static enum huge huge_of(const struct sight *s, struct mm_slot *mm, uint32_t bi,
			 enum track_kind kind) NEEDS(mm->e->lock)
{
	if (!s->tracked)
		return NO_HUGE;
	if (kind == TRACK_HUGE)
		return huge_seen(mm, bi) ? HUGE_AGAIN : HUGE;
	return huge_is(mm, bi) && kind == TRACK_ANON ? SPLIT : NO_HUGE;
}

static void see_slot(const struct sight *s, struct mm_slot *mm, uint32_t bi, uint64_t addr,
		     enum track_kind kind, enum huge huge) NEEDS(mm->e->lock)
{
	unsigned int slot = addr / PAGE_BYTES % BLOCK_PAGES;
	bool raced = glance_raced(s->t, addr);

	if (huge == HUGE || huge == HUGE_AGAIN)
		see_huge(mm->e, bi, slot, huge == HUGE_AGAIN, raced);
	else if (huge == SPLIT)
		see_split(mm->e, bi, slot, raced);
	else if (s->tracked || (!raced && rmap_state(rmap_block(mm->e, bi), slot) == RMAP_ABSENT))
		see_page(mm, bi, slot, kind, raced);
}

/* Pages of `at`, which lies in region r. */
static void see_run(const struct sight *s, struct mm_slot *mm, struct region *r, struct span at,
		    enum track_kind kind) NEEDS(mm->e->lock)
{
	while (!span_empty(at)) {
		uint32_t key = (uint32_t)(at.start / BLOCK_BYTES), bi;
		struct span part = span_clip(at, block_span(key));
		enum huge huge;

		at.start = part.end;
		bi = kind == TRACK_ZERO ? block_find(mm, key) : block_get(mm, key, r);
		if (bi == NIL)
			continue; /* nothing known of zero pages, or no memory to know it */
		huge = huge_of(s, mm, bi, kind);
		for (uint64_t addr = part.start; addr < part.end; addr += PAGE_BYTES)
			see_slot(s, mm, bi, addr, kind, huge);
		block_put(mm, bi);
	}
}

/* The parts of a reported range that are still offered. */
static void see_range(const struct sight *s, struct mm_slot *mm, const struct track_range *v)
	NEEDS(mm->e->lock)
{
	const struct region_array *a = mm->regions;

	struct region_pos p = region_find(a, v->at.start);
	struct region *r;

	for (; (r = region_on(a, p)) && r->at.start < v->at.end; p = region_after(a, p))
		see_run(s, mm, r, span_clip(v->at, r->at), v->kind);
}

/*
 * Tracking has no room to say what is where it is of many kinds. It reports written pages then, and
 * with them holes: a page of zeros that was given back must not be taken for one that was written.
 * So the worker looks, a block at a time, and takes in what can be looked at.
 */
static void look_at_unknown(const struct sight *s, struct mm_slot *mm, const struct track_range *v)
	NEEDS_NOT(mm->e->lock);
static void look_at_unknown(const struct sight *s, struct mm_slot *mm, const struct track_range *v)
{
	struct track_range rest = *v, is[BLOCK_PAGES];
	int n = 0;

	while (!span_empty(rest.at) && n >= 0) {
		struct span part = rest.at;

		part.end = u64_min(part.end, block_span((uint32_t)(part.start / BLOCK_BYTES)).end);
		n = mm->e->ops->look(mm->client, part.start, part.end, is, BLOCK_PAGES);
		engine_lock(mm->e);
		for (int i = 0; i < n && !mm->dead; i++)
			see_range(s, mm, &is[i]);
		if (n < 0 && !mm->dead)
			see_range(s, mm, &rest);
		engine_unlock(mm->e);
		rest.at.start = part.end;
	}
}

/* Pages of a huge page are armed from now on. Each may lie between others in a range of its own. */
static void end_huge(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock)
{
	uint32_t last = (uint32_t)((at.end - 1) / BLOCK_BYTES), bi;

	for (uint32_t key = (uint32_t)(at.start / BLOCK_BYTES); key <= last; key++)
		if ((bi = block_find(mm, key)) != NIL)
			huge_end(mm, bi);
}

int see_track(struct scan_worker *w, struct mm_slot *mm, struct span *at, bool dense,
	      struct track_range *v)
{
	const struct sight s = { &w->glance, true };
	enum track_how how = dense ? TRACK_DENSE : TRACK_MIXED;
	uint64_t walk_end;
	bool open;
	int n;

	engine_lock(mm->e);
	if (!dense && block_find(mm, (uint32_t)(at->start / BLOCK_BYTES)) == NIL)
		how = TRACK_NEW;
	open = glance_open(&w->glance, mm, at);
	engine_unlock(mm->e);
	if (!open)
		return -EBUSY;
	walk_end = at->end;
	n = mm->e->ops->track(mm->client, at->start, at->end, how, v, SEE_RANGES, &walk_end);
	for (int i = 0; i < n; i++)
		if (v[i].kind == TRACK_UNKNOWN)
			look_at_unknown(&s, mm, &v[i]);
	engine_lock(mm->e);
	for (int i = 0; i < n && !mm->dead; i++)
		if (v[i].kind != TRACK_UNKNOWN)
			see_range(&s, mm, &v[i]);
	for (int i = 0; i < n && !mm->dead; i++)
		if (v[i].kind != TRACK_HUGE)
			end_huge(mm, v[i].at);
	glance_close(&w->glance, mm);
	engine_unlock(mm->e);
	if (n >= 0 && walk_end > at->start && walk_end < at->end)
		at->end = walk_end;
	return n;
}

int see_clean(struct scan_worker *w, struct mm_slot *mm, struct span *at, struct track_range *v,
	      uint64_t *pages)
{
	const struct sight s = { &w->glance, false };
	struct span part = *at;
	uint64_t walk_end = 0;
	bool open;
	int n;

	engine_lock(mm->e);
	open = glance_open(&w->glance, mm, &part);
	if (!open) /* a block with an order under way: not now */
		unseen_note(&mm->unseen, part);
	engine_unlock(mm->e);
	at->start = part.end;
	if (!open)
		return 0;
	n = mm->e->ops->clean(mm->client, part.start, part.end, v, SEE_RANGES, &walk_end);
	engine_lock(mm->e);
	for (int i = 0; i < n && !mm->dead; i++) {
		see_range(&s, mm, &v[i]);
		*pages += span_len(v[i].at) / PAGE_BYTES;
	}
	glance_close(&w->glance, mm);
	engine_unlock(mm->e);
	if (n >= 0 && walk_end > part.start && walk_end < part.end)
		at->start = walk_end;
	return n == -ESRCH ? n : 0;
}

/* --- before counters are read --- */

/* So much at a time: the glance is short, and orders wait for it. */
#define LOOK_BYTES (32ull << 20)

/* Where the first page may be that the engine knows of, if `at` has none; else where it begins. */
static uint64_t skip_unknown(struct mm_slot *mm, struct span at) NEEDS(mm->e->lock)
{
	uint32_t first = (uint32_t)(at.start / BLOCK_BYTES), key = first;

	while (key <= (at.end - 1) / BLOCK_BYTES && block_find(mm, key) == NIL)
		key++;
	if (key <= (at.end - 1) / BLOCK_BYTES)
		return at.start;
	key = block_first_key(mm, first);
	return key == UINT32_MAX ? UINT64_MAX : key * BLOCK_BYTES;
}

static void look_at_page(struct mm_slot *mm, uint32_t bi, unsigned int slot) NEEDS(mm->e->lock)
{
	enum rmap_state state = rmap_state(rmap_block(mm->e, bi), slot);

	if (state == RMAP_ZEROED) {
		page_set(mm->e, bi, slot, RMAP_ABSENT, 0);
	} else if (state == RMAP_MERGED) {
		page_set(mm->e, bi, slot, RMAP_COWED, 0);
		mm->e->total.cow_breaks++;
		mm->cow_breaks++;
	}
}

static void look_at_run(const struct glance *t, struct mm_slot *mm, struct span at)
	NEEDS(mm->e->lock)
{
	while (!span_empty(at)) {
		uint32_t key = (uint32_t)(at.start / BLOCK_BYTES), bi = block_find(mm, key);
		struct span part = span_clip(at, block_span(key));

		at.start = part.end;
		if (bi == NIL)
			continue;
		for (uint64_t addr = part.start; addr < part.end; addr += PAGE_BYTES)
			if (!glance_raced(t, addr))
				look_at_page(mm, bi, addr / PAGE_BYTES % BLOCK_PAGES);
		block_put(mm, bi);
	}
}

int engine_look(struct mm_slot *mm, uint64_t *addr)
{
	struct engine *e = mm->e;
	struct region *r = region_next(mm, *addr);
	struct track_range v[SEE_RANGES];
	struct span at;
	bool any, open;
	uint64_t start;
	int n;

	if (!r)
		return 0;
	at.start = u64_max(*addr, r->at.start);
	at.end = u64_min(r->at.end, at.start + LOOK_BYTES);
	region_put(r);
	engine_lock(e);
	mm_is_of(mm, e);
	any = mm->nr_state[RMAP_MERGED] + mm->nr_state[RMAP_ZEROED] > 0;
	start = any ? skip_unknown(mm, at) : at.start;
	open = any && start == at.start && glance_open(&e->looker, mm, &at);
	engine_unlock(e);
	*addr = u64_max(at.end, start);
	if (!open)
		return any;
	n = e->ops->written(mm->client, at.start, at.end, v, SEE_RANGES, addr);
	engine_lock(e);
	for (int i = 0; i < n && !mm->dead; i++)
		if (v[i].kind == TRACK_ANON)
			look_at_run(&e->looker, mm, v[i].at);
	glance_close(&e->looker, mm);
	engine_unlock(e);
	if (n < 0 || *addr <= at.start)
		*addr = at.end;
	return n == -ESRCH ? n : 1;
}

/* --- sites in doubt --- */

/* What a look at a block has shown of its pending sites. Pages that raced stay pending. */
static void take_in(const struct glance *t, struct mm_slot *mm, uint32_t key,
		    const struct track_range *v, int nr) NEEDS(mm->e->lock)
{
	uint32_t bi = block_find(mm, key);
	int i = 0;

	if (bi == NIL)
		return;
	for (uint64_t m = rmap_block(mm->e, bi)->pending; m; m &= m - 1) {
		unsigned int slot = low_bit(m);
		uint64_t addr = key * BLOCK_BYTES + slot * PAGE_BYTES;

		if (waits_for_hash(rmap_block(mm->e, bi), slot) || glance_raced(t, addr))
			continue;
		rmap_block(mm->e, bi)->pending &= ~bit64(slot);
		while (i < nr && v[i].at.end <= addr)
			i++;
		if (i < nr && v[i].at.start <= addr)
			see_page(mm, bi, slot, v[i].kind, false);
	}
	block_put(mm, bi);
}

int see_sites(struct scan_worker *w, struct mm_slot *mm, uint32_t key)
{
	struct span at = block_span(key);
	struct track_range v[BLOCK_PAGES];
	bool open;
	int n;

	engine_lock(mm->e);
	open = glance_open(&w->glance, mm, &at);
	engine_unlock(mm->e);
	if (!open)
		return 0;
	n = mm->e->ops->look(mm->client, at.start, at.end, v, BLOCK_PAGES);
	engine_lock(mm->e);
	if (n >= 0 && !mm->dead)
		take_in(&w->glance, mm, key, v, n);
	glance_close(&w->glance, mm);
	engine_unlock(mm->e);
	return n == -ESRCH ? n : 0;
}

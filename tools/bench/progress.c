/* SPDX-License-Identifier: MIT */
/*
 * progress.c - waiting for the end of merging, and when it came.
 *
 * The clock that counts is that of the last change, not of the moment at which we are sure that no
 * further one comes. CPU time is therefore taken at every change, too.
 */
#include "progress.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "run.h"
#include "stop.h"

enum {
	POLL_MS = 5,     /* a hundredth of what a run takes at least, and no load */
	QUIET_MS = 2000, /* no change for so long, and in two passes: no further one will come */
	MAX_CURVE = BENCH_MAX_LIMIT_S * 1000 / POLL_MS,
	CALM_PERMILLE = 5, /* programs go on writing: so little of the gain is no progress */
};

/*
 * Take the look of one poll into account. A change is that more is merged than ever before: stores
 * undo merges, and a frame that is moved when merging rests is two for a moment. Without a goal it
 * is also the end of the second pass. Returns 1 at the end.
 */
static int goal_look(struct run *r, uint64_t goal, uint64_t t, struct progress *p,
		     uint64_t *scans_at_change)
{
	uint64_t merged, scans;
	int err = run_merged(r, &merged);

	err = err ? err : side_get(&r->side, "full_scans", &scans);
	if (err)
		return err;
	if (merged > p->merged || (!goal && scans >= 2)) {
		p->merged = merged;
		p->ns = t;
		*scans_at_change = scans;
		err = run_cpu_ns(r, false, &p->cpu);
		if (err)
			return err;
	}
	if (goal ? merged >= goal : scans >= 2)
		return 1;
	return goal && scans >= *scans_at_change + 2 && t > p->ns + QUIET_MS * 1000000ull;
}

int progress_to_goal(struct run *r, uint64_t start, uint64_t goal, bool probes, struct progress *p)
{
	uint64_t t, scans_at_change = 0;
	int end;

	memset(p, 0, sizeof(*p));
	for (;;) {
		t = clock_ns() - start;
		end = goal_look(r, goal, t, p, &scans_at_change);
		if (end)
			return end < 0 ? end : 0;
		if (t > r->cfg->limit_s * 1000000000ull)
			break;
		end = stop_sleep_ms(POLL_MS);
		if (end)
			return end;
	}
	round_note(r->out,
		   "%s: no end of merging within %u s%s (%lu of %lu pages, last change at %.1f s)",
		   side_name[r->side.id], r->cfg->limit_s, probes ? " with stall probes" : "",
		   p->merged, goal, (double)p->ns / 1e9);
	return -ETIME;
}

/* ---- where nobody knows the goal ---- */

struct curve {
	int nr;
	uint64_t at_rest;   /* merged when it last grew by more than programs' own writes do */
	uint64_t ns, scans; /* the time and full_scans of that moment */
	struct progress at[MAX_CURVE];
};

/* One more point. Returns 1 when it is the last one: merging has come to rest. */
static int curve_look(struct run *r, uint64_t start, struct curve *c)
{
	struct progress *p = &c->at[c->nr];
	uint64_t scans;
	int err;

	p->ns = clock_ns() - start;
	err = run_merged(r, &p->merged);
	err = err ? err : side_get(&r->side, "full_scans", &scans);
	err = err ? err : run_cpu_ns(r, false, &p->cpu);
	if (err)
		return err;
	if (p->merged > c->at_rest && (p->merged - c->at_rest) * 1000 > p->merged * CALM_PERMILLE) {
		c->at_rest = p->merged;
		c->ns = p->ns;
		c->scans = scans;
	}
	return scans >= c->scans + 2 && p->ns > c->ns + QUIET_MS * 1000000ull;
}

/*
 * The first point at which 99 % of the end is reached, because programs' own writes undo and redo a
 * little for ever.
 */
static struct progress curve_end(const struct curve *c)
{
	int i = 0;

	while (c->at[i].merged < c->at[c->nr].merged * 99 / 100)
		i++;
	return c->at[i];
}

int progress_to_rest(struct run *r, uint64_t start, struct progress *p)
{
	static struct curve c; /* too large for the stack */

	memset(&c, 0, sizeof(c));
	for (;;) {
		const struct progress *now = &c.at[c.nr];
		int end = curve_look(r, start, &c);

		if (end < 0)
			return end;
		if (end)
			break;
		if (now->ns > r->cfg->limit_s * 1000000000ull || c.nr == MAX_CURVE - 1) {
			round_note(r->out,
				   "%s: merging did not come to rest within %u s (%lu pages)",
				   side_name[r->side.id], r->cfg->limit_s, now->merged);
			*p = *now;
			return -ETIME;
		}
		c.nr++;
		end = stop_sleep_ms(POLL_MS);
		if (end)
			return end;
	}
	*p = curve_end(&c);
	return 0;
}

int progress_passes(struct run *r, uint64_t from, uint64_t passes, uint64_t timeout_ms)
{
	uint64_t scans, start = clock_ns();
	int err;

	do {
		err = side_get(&r->side, "full_scans", &scans);
		if (!err && scans >= from + passes)
			return 0;
		if (!err && clock_ns() - start > timeout_ms * 1000000)
			return -ETIME;
		err = err ? err : stop_sleep_ms(POLL_MS);
	} while (!err);
	return err;
}

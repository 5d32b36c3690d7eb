/* SPDX-License-Identifier: MIT */
/* node_watch.c - see node_watch.h. */
#include "daemon/node_watch.h"

#include "base/clock.h"
#include "base/span.h"

#define LOOK_MS 250     /* between two looks at the hint: 33 us each */
#define IDLE_MS 1000    /* the same without clients */
#define SLICE_PAGES 512 /* asked between two looks at the clock: a quarter of a millisecond */
#define SLICE_MS 5
#define PAUSE_MS 45 /* after a slice: a round takes a tenth of a core */
#define SLOW_MS 60000
#define BRING_MS 1000    /* between two looks whether frames are to be brought back */
#define BRING_PAUSE_MS 5 /* between two steps of that */
#define ROOM_BYTES (64ull << 20)
/* Parts of a core: no round begins before the last one has been paid for. */
#define HINT_PARTS 20
#define SLOW_PARTS 200

/* Is it so long ago that the last round ended that it took no more than one part in so many? */
static bool paid(const struct node_watch *w, uint64_t now, uint64_t parts)
{
	return (now - w->ended_ms) * 1000000 >= w->cost_ns * parts;
}

/* Domains in which a node came or went; what waits there would not be looked at again. */
static bool any_due(struct domain **v, unsigned int nr)
{
	bool due = false;

	for (unsigned int i = 0; i < nr && !due; i++)
		due = engine_survey_due(v[i]->engine);
	return due;
}

/* In all domains, or where one is due. */
static void begin(struct node_watch *w, bool all, struct domain **v, unsigned int nr)
{
	w->under_way = true;
	w->cost_ns = 0;
	for (unsigned int i = 0; i < nr; i++)
		v[i]->surveyed = !all && !engine_survey_due(v[i]->engine);
}

static void begin_if_due(struct node_watch *w, struct numa_topology *t, struct domain **v,
			 unsigned int nr)
{
	uint64_t hint = t->ops->moves(t), now = clock_ms();

	if ((hint != w->hint && paid(w, now, HINT_PARTS)) ||
	    (now - w->ended_ms >= SLOW_MS && paid(w, now, SLOW_PARTS))) {
		w->hint = hint;
		begin(w, true, v, nr);
	} else if (paid(w, now, HINT_PARTS) && any_due(v, nr)) {
		begin(w, false, v, nr);
	}
}

/* Go on for a slice of time. True: the round is over. */
static bool go_on(struct node_watch *w, struct domain **v, unsigned int nr)
{
	uint64_t begun = clock_thread_cpu_ns(), end = clock_ms() + SLICE_MS;
	unsigned int i = 0;

	while (i < nr && clock_ms() < end) {
		if (!v[i]->surveyed)
			v[i]->surveyed = engine_survey(v[i]->engine, SLICE_PAGES);
		i += v[i]->surveyed;
	}
	w->cost_ns += clock_thread_cpu_ns() - begun;
	return i == nr;
}

/* Frames that could not be made on a node come back when it has so much room. */
static bool has_room(struct numa_topology *t, int nid)
{
	return !t->ops->usable(t, nid) && t->ops->room(t, nid) >= ROOM_BYTES;
}

static bool any_away(struct domain **v, unsigned int nr)
{
	struct engine_counters c = { 0 };

	for (unsigned int i = 0; i < nr; i++)
		engine_counters(v[i]->engine, &c);
	return c.frames_away > 0;
}

/* One step for a node in all domains; every node has its turn. */
static void bring_back(struct node_watch *w, struct numa_topology *t, struct domain **v,
		       unsigned int nr)
{
	bool done = true;
	uint64_t placed = 0;

	if (!w->bringing) {
		w->bringing = any_away(v, nr);
		w->bring_to = 0;
	}
	if (w->bringing && has_room(t, w->bring_to))
		for (unsigned int i = 0; i < nr; i++)
			done &= engine_bring_back(v[i]->engine, w->bring_to, &placed);
	w->brought += placed;
	if (done && w->bringing)
		w->bringing = ++w->bring_to < t->nr_nodes;
	w->bring_ms = clock_ms() + (w->bringing ? BRING_PAUSE_MS : BRING_MS);
}

uint64_t node_watch_step(struct node_watch *w, struct numa_topology *t, struct domain **v,
			 unsigned int nr, bool busy)
{
	uint64_t now = clock_ms();

	busy &= now - w->ended_ms < SLOW_MS;
	if (t->nr_nodes == 1)
		return CLOCK_NEVER;
	if (now < w->due_ms)
		return w->due_ms;
	if (!w->under_way && nr && !busy)
		begin_if_due(w, t, v, nr);
	if (w->under_way && !busy && go_on(w, v, nr)) {
		w->under_way = false;
		w->ended_ms = clock_ms();
	}
	if (nr && now >= w->bring_ms)
		bring_back(w, t, v, nr);
	w->due_ms = clock_ms() + (w->under_way ? PAUSE_MS : nr ? LOOK_MS : IDLE_MS);
	if (w->bringing)
		w->due_ms = u64_min(w->due_ms, w->bring_ms);
	return w->due_ms;
}

/* SPDX-License-Identifier: MIT */
/* steering.c - see steering.h. */
#include "daemon/steering.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/span.h"
#include "daemon/pace.h"
#include "engine/numa_policy.h"

#define LOOK_MS 250 /* between two rounds, and two looks whether one is due */
#define PAUSE_MAX_MS 60000
#define PARTS 20 /* a round takes no more than one part in so many of a core */

int steering_init(struct steering *s)
{
	lock_init(&s->lock);
	s->pause_ms = LOOK_MS;
	s->sum = calloc(1, sizeof(*s->sum));
	return s->sum ? 0 : -ENOMEM;
}

void steering_deinit(struct steering *s)
{
	readers_deinit(&s->readers);
	free(s->sum);
	lock_deinit(&s->lock);
}

/* Is less of the machine's memory available than the operator wants? Reading it costs 20 us. */
static bool is_short(const struct ksm_knobs *k)
{
	unsigned long long total = 0, available = 0;
	char line[128];
	FILE *f;

	if (knob_get(k, KNOB_MERGE_POLICY) != POLICY_REPLICATE)
		return false;
	f = fopen("/proc/meminfo", "re");
	while (f && !available && fgets(line, sizeof(line), f)) {
		sscanf(line, "MemTotal: %llu", &total);
		sscanf(line, "MemAvailable: %llu", &available);
	}
	if (f)
		fclose(f);
	return total && available * 100 < total * knob_get(k, KNOB_REPLICA_MIN_FREE_PERCENT);
}

static void add(struct steering *s, const struct engine_steered *more)
{
	const uint64_t *from = (const uint64_t *)more;
	uint64_t *to = (uint64_t *)s->sum;

	lock_take(&s->lock);
	for (size_t i = 0; i < sizeof(*more) / sizeof(*from); i++)
		to[i] += from[i];
	lock_give(&s->lock);
	for (int nid = 0; nid < ENGINE_NODES; nid++) {
		s->good += more->to[nid].moved + more->to[nid].copied + more->to[nid].joined;
		s->bad += more->to[nid].failed;
	}
}

/* True: a round is under way somewhere. */
static bool step_all(struct steering *s, struct domain **v, unsigned int nr, uint64_t *due_ms,
		     bool *retired)
{
	struct engine_steered done = { 0 };
	uint64_t now = clock_ms();
	bool active = false;

	for (unsigned int i = 0; i < nr; i++) {
		enum engine_migrate r = engine_steer_step(v[i]->engine, now, s->pressure, &done);

		active |= pace_next(r, now, PACE_ANSWERS_MS, due_ms);
		*retired |= r == ENGINE_MIGRATE_DONE;
	}
	add(s, &done);
	return active;
}

static void round_ended(struct steering *s)
{
	s->ended_ms = clock_ms();
	s->pause_ms = s->bad && !s->good ? u64_min(2 * s->pause_ms, PAUSE_MAX_MS) : LOOK_MS;
	s->good = s->bad = 0;
}

uint64_t steering_step(struct steering *s, struct clients *c, const struct ksm_knobs *knobs,
		       struct numa_topology *t, struct domain **v, unsigned int nr, bool *retired)
{
	uint64_t begun = clock_thread_cpu_ns(), now = clock_ms(), readers_due;

	if (t->nr_nodes == 1)
		return CLOCK_NEVER;
	readers_due =
		readers_step(&s->readers, c, t, policy_steers(knob_get(knobs, KNOB_MERGE_POLICY)));
	if (now >= s->due_ms) {
		if (!s->active) {
			s->pressure = is_short(knobs);
			s->cost_ns = 0;
		}
		s->due_ms = CLOCK_NEVER;
		s->active = step_all(s, v, nr, &s->due_ms, retired);
		s->cost_ns += clock_thread_cpu_ns() - begun;
		if (!s->active) {
			round_ended(s);
			s->due_ms =
				s->ended_ms + u64_max(s->pause_ms, s->cost_ns * PARTS / 1000000);
		}
	}
	return u64_min(s->due_ms, readers_due);
}

void steering_counts(struct steering *s, struct engine_steered *out)
{
	lock_take(&s->lock);
	*out = *s->sum;
	lock_give(&s->lock);
}

/* SPDX-License-Identifier: MIT */
/*
 * steering.h - when frames are to go where merge_policy wants them (engine_steer_step()).
 *
 * The engine knows whether anything has changed that matters. What is added here is how much it may
 * cost: after a round, the next one begins once this one is a small part of the time since, and
 * later and later while nothing could be moved.
 *
 * The mover's thread alone calls these, except steering_counts().
 */
#ifndef KSMD_STEERING_H
#define KSMD_STEERING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/guard.h"
#include "daemon/domain.h"
#include "daemon/readers.h"

struct steering {
	struct readers readers;
	uint64_t due_ms, ended_ms, cost_ns; /* as of struct node_watch */
	uint64_t pause_ms;                  /* grows while rounds are in vain */
	bool active, pressure;
	uint64_t good, bad;         /* frames of the round under way */
	struct lock lock;           /* a leaf; covers `sum` */
	struct engine_steered *sum; /* since the start */
};

/* 0 or -ENOMEM. */
int steering_init(struct steering *s);
void steering_deinit(struct steering *s);
/*
 * A step for every domain. Returns when the next is due, in ms; never on a machine with one node.
 * *retired: frames have been.
 */
uint64_t steering_step(struct steering *s, struct clients *c, const struct ksm_knobs *knobs,
		       struct numa_topology *t, struct domain **v, unsigned int nr, bool *retired);
/* What has become of frames, by node. Any thread. */
void steering_counts(struct steering *s, struct engine_steered *out);

#endif

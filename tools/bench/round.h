/* SPDX-License-Identifier: MIT */
/*
 * round.h - what one round on one side gives, told to the Python program as soon as it is known.
 *
 * Each call is one line of the answer to a request (requests.c).
 */
#ifndef KSM_BENCH_ROUND_H
#define KSM_BENCH_ROUND_H

#include <stdbool.h>
#include <stdio.h>

struct round {
	FILE *to;
	bool noted;
};
/* `key` is one of metrics.py. Says nothing of a NAN: then there is nothing to say. */
void round_value(struct round *r, const char *key, double value);
/* A knob in force during the round, as it is read; what follows a line break is left out. */
void round_knob(struct round *r, const char *name, const char *value);
/*
 * The round is incomplete: say why, on standard error as well. Only the first note counts: what
 * comes after it is a consequence.
 */
void round_note(struct round *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

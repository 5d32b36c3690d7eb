/* SPDX-License-Identifier: MIT */
/*
 * turns.c - the rounds of one workload, in which the sides take turns.
 *
 * The sides alternate within one run, and take turns in going first, so that drift of the machine
 * hits both. A side that fails in a round, or does not come to its end, is given up for this
 * workload only. The report says in a note what is missing, and everything else goes on.
 */
#include "turns.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "growth.h"
#include "machine.h"
#include "measure.h"
#include "message.h"
#include "real.h"
#include "report.h"
#include "result.h"
#include "round.h"
#include "workload.h"

/* In percent of one CPU: less is not worth a word. Our polling takes some. */
enum { BUSY_PCT = 15 };

/* Seconds since the first workload began. */
static double seconds(void)
{
	static uint64_t started;

	started = started ? started : clock_ns();
	return (double)(clock_ns() - started) / 1e9;
}

static void tell_round(const struct bench_config *cfg, int side, unsigned int round,
		       const struct round *out)
{
	static const enum metric told[] = { M_MERGED_PCT,    M_MERGE_S,       M_CPU_S,
					    M_REST_CPU_MS,   M_SAVED_NET_MIB, M_STORE_P999_US,
					    M_GROW_SIZE_CPU, M_GROW_MANY_CPU };
	static const char *const form[] = { "merged %.1f %%",
					    "in %.3f s",
					    "CPU %.3f s",
					    "a later pass %.3f ms",
					    "%.1f MiB saved net",
					    "99.9 %% of stores below %.0f us",
					    "16 times the size costs %.2f",
					    "many processes %.2f" };
	const char *comma = "";

	fprintf(stderr, "  [%3.0f s] round %u of %u, %-9s: ", seconds(), round + 1, cfg->rounds,
		side_name[side]);
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		if (isnan(out->value[told[i]]))
			continue;
		fputs(comma, stderr);
		fprintf(stderr, form[i], out->value[told[i]]);
		comma = ", ";
	}
	if (out->value[M_OTHERS_PCT] > BUSY_PCT)
		fprintf(stderr, "%sothers used %.0f %% of a CPU", comma, out->value[M_OTHERS_PCT]);
	fprintf(stderr, "%s\n", out->incomplete ? " (not complete)" : "");
}

static int round_on(const struct bench_config *cfg, struct bench_result *r, int side,
		    unsigned int round)
{
	static struct round out;
	char note[BENCH_NOTE];
	int err = cfg->workload->growth ? growth_round(cfg, side, &out) :
		  cfg->merge_only       ? measure_cost(cfg, side, &out) :
					  measure_round(cfg, side, &out);

	tell_round(cfg, side, round, &out);
	if (*out.knobs)
		memcpy(r->knobs[side], out.knobs, KNOBS_TEXT);
	for (int m = 0; m < M_NR; m++)
		r->value[side][m][r->nr[side]] = out.value[m];
	r->nr[side]++;
	if (out.incomplete) {
		r->incomplete[side] = true;
		snprintf(note, sizeof(note), "round %u: %.200s", round + 1, out.note);
		result_note(r, note);
	}
	return err;
}

/*
 * Run all rounds. A side that failed would most likely fail again and take its time over it, so it
 * gets no further round. Returns the worst error; -ETIME is the mildest.
 */
static int run_rounds(const struct bench_config *cfg, struct bench_result *r)
{
	bool go[SIDE_NR] = { cfg->side[0], cfg->side[1] };
	int worst = 0;

	if (cfg->workload->growth && go[SIDE_USER])
		go[SIDE_KERNEL] = false;
	for (unsigned int round = 0; round < cfg->rounds; round++) {
		for (int i = 0; i < SIDE_NR; i++) {
			int side = (int)(round + (unsigned int)i) % SIDE_NR, err;

			if (!go[side])
				continue;
			err = round_on(cfg, r, side, round);
			if (err == -EINTR)
				return err;
			if (r->incomplete[side])
				go[side] = false;
			if (err && worst != -EIO)
				worst = err == -ETIME ? -ETIME : -EIO;
			if (!err && r->incomplete[side] && !worst)
				worst = -ETIME;
		}
	}
	return worst;
}

static void why_skipped(const struct bench_config *cfg, char why[BENCH_NOTE])
{
	uint64_t need = workload_bytes(cfg->workload, cfg->processes, cfg->size_mib),
		 have = machine_available();
	const char *missing = cfg->workload->real ? real_missing(cfg) : NULL;

	if (missing)
		snprintf(why, BENCH_NOTE, "%s", missing);
	else if (need > have)
		snprintf(why, BENCH_NOTE, "it needs %lu MiB of memory, %lu MiB are available",
			 need >> 20, have >> 20);
}

int turns_run(const struct bench_config *cfg)
{
	static struct bench_result r; /* too large for the stack */
	int err = 0;

	result_init(&r, cfg);
	fprintf(stderr, "[%3.0f s] %s (%s): %u x %u MiB, on %s, %s\n", seconds(),
		cfg->workload->name, cfg->workload->what, cfg->processes, cfg->size_mib,
		r.machine.cpu, r.machine.kernel);
	why_skipped(cfg, r.skipped);
	if (*r.skipped)
		complain("%s: skipped: %s", cfg->workload->name, r.skipped);
	else
		err = run_rounds(cfg, &r);
	if (cfg->json)
		result_json(stdout, &r);
	else
		report_print(&r);
	fflush(stdout);
	return err;
}

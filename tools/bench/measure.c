/* SPDX-License-Identifier: MIT */
/*
 * measure.c - one round on one side.
 *
 * A round is two runs with fresh processes. The first is undisturbed: all memory is filled and
 * registered while run = 0, then run = 1 starts the clock. So both sides begin with everything in
 * place, and neither pays for the order in which processes arrive. The cost of registration is
 * counted in CPU and reported. The second run has probers in the clients and gives stalls only,
 * because their stores undo merges.
 *
 * CPU is that of ksmd or the daemon up to the last merge, that of every thread in the clients that
 * the program did not make, and that of the registering calls. At the end of each run the tenants
 * check every byte.
 *
 * Real programs (real.c) and families have one run: they hold no probers, and nobody knows
 * beforehand how many of their pages will be merged. So the curve of what was merged when gives
 * their end. Neither have those that rewrite their pages themselves, or have few.
 *
 * A run that does not come to its end is given up after cfg->limit_s. The round keeps what is known
 * by then, the tenants check their bytes all the same, and a note says what is missing.
 */
#include "measure.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/span.h"
#include "corunner.h"
#include "guests.h"
#include "machine.h"
#include "memory.h"
#include "message.h"
#include "progress.h"
#include "real.h"
#include "run.h"
#include "stalls.h"
#include "stop.h"

enum {
	REST_PASSES = 10,
	REST_MIN_PASSES = 2,
	ALONE_MS = 3000, /* 12,000 questions: twelve beyond the 99.9th percentile */
	REST_MS = 5000,  /* where ten passes take longer, fewer will do */
	DIRTY_PASS_MS = 20000,
	COW_WRITES = 4096,
	COW_ENOUGH = 16, /* fewer say nothing */
};

/* ---- merging ---- */

struct registration {
	uint64_t cpu_ns;  /* of all calls */
	uint64_t wall_ns; /* of the slowest client, until it is served */
};

static void on_register(void *arg, const struct tenant_reply *reply)
{
	struct registration *g = arg;

	g->cpu_ns += reply->v[0];
	g->wall_ns = u64_max(g->wall_ns, reply->v[1]);
}

/*
 * If the machine does something else besides, its figures are doubtful. /proc/stat counts in
 * hundredths of seconds, which is good enough to tell.
 */
static int others(struct run *r, double busy0, uint64_t cpu0, uint64_t beside0, uint64_t start)
{
	uint64_t cpu1;
	double elapsed = (double)(clock_ns() - start) / 1e9, busy = machine_busy_s() - busy0;
	int err = run_cpu_ns(r, true, &cpu1);

	busy -= (double)(corunner_cpu_ns(r->corunner) - beside0) / 1e9;
	if (!err)
		round_value(r->out, "others_pct",
			    fmax(0, 100 * (busy - (double)(cpu1 - cpu0) / 1e9) / elapsed));
	return err;
}

/* Register (real programs have done so), start, and wait for the end of merging. */
static int run_merge(struct run *r)
{
	bool real = r->real;
	struct registration registered = { 0 };
	struct progress p = { 0 };
	uint64_t start, cpu0, cpu_registered, beside0, agents = 0;
	double busy0;
	int err = run_cpu_ns(r, false, &cpu0);

	if (!err && !real)
		err = fleet_command(&r->fleet, TENANT_REGISTER, 0, on_register, &registered);
	start = clock_ns();
	busy0 = machine_busy_s();
	beside0 = corunner_cpu_ns(r->corunner);
	err = err ? err : run_cpu_ns(r, true, &cpu_registered);
	err = err ? err : side_set(&r->side, "run", "1");
	if (!err)
		err = r->open_end ? progress_to_rest(r, start, &p) :
				    progress_to_goal(r, start, r->expected, false, &p);
	if (r->expected && (!err || err == -ETIME))
		round_value(r->out, "merged_pct", 100.0 * (double)p.merged / (double)r->expected);
	r->merged = p.merged;
	if (!err && run_is_large(r))
		err = fleet_agents_cpu_ns(&r->fleet, &agents);
	if (err)
		return err;
	err = others(r, busy0, cpu_registered, beside0, start);
	round_value(r->out, "merge_s", (double)p.ns / 1e9);
	r->merge_cpu_s = (double)(p.cpu - cpu0 + agents + registered.cpu_ns) / 1e9;
	round_value(r->out, "cpu_s", r->merge_cpu_s);
	if (!real)
		round_value(r->out, "register_ms", (double)registered.wall_ns / 1e6);
	return err;
}

/* ---- after it ---- */

static void on_dirty(void *arg, const struct tenant_reply *reply)
{
	uint64_t *sum = arg;

	sum[0] += reply->v[0];
	sum[1] += reply->v[1];
}

/* Rewrite 1 % of the memory for every second pass. */
static int rest_dirty(struct run *r)
{
	uint64_t scans, dirty[2] = { 0, 0 };
	int err = 0;

	for (uint32_t i = 0; i < REST_PASSES / 2 && !err; i++) {
		err = fleet_command(&r->fleet, TENANT_DIRTY, i + 1, on_dirty, dirty);
		err = err ? err : side_get(&r->side, "full_scans", &scans);
		err = err ? err : progress_passes(r, scans, 2, DIRTY_PASS_MS);
	}
	if (dirty[0])
		round_value(r->out, "dirty_ns", (double)dirty[1] / (double)dirty[0]);
	return err;
}

static int rest_calm(struct run *r, uint64_t scans)
{
	int err = progress_passes(r, scans, REST_PASSES, REST_MS);

	if (err == -ETIME)
		err = progress_passes(r, scans, REST_MIN_PASSES, r->cfg->limit_s * 1000);
	return err;
}

/* The CPU time of one pass after the last merge. */
static int measure_rest(struct run *r)
{
	uint64_t cpu0, cpu1, scans0, scans1;
	int err = side_get(&r->side, "full_scans", &scans0);

	/* Work that follows the last merge once is no part of a pass at rest. */
	err = err ? err : progress_passes(r, scans0, REST_PASSES, REST_MS);
	err = err == -ETIME ? 0 : err;
	err = err ? err : side_get(&r->side, "full_scans", &scans0);
	err = err ? err : run_cpu_ns(r, true, &cpu0);
	if (!err)
		err = r->cfg->workload.manner == MANNER_DIRTY ? rest_dirty(r) :
								rest_calm(r, scans0);
	if (err == -ETIME) {
		round_note(r->out, "%s: passes over calm memory take longer than %u s",
			   side_name[r->side.id], r->cfg->limit_s / REST_MIN_PASSES);
		return 0;
	}
	err = err ? err : run_cpu_ns(r, true, &cpu1);
	err = err ? err : side_get(&r->side, "full_scans", &scans1);
	if (!err)
		round_value(r->out, "rest_cpu_ms",
			    (double)(cpu1 - cpu0) / 1e6 / (double)(scans1 - scans0));
	return err;
}

static int measure_cow(struct run *r)
{
	static struct tenant_reply reply; /* too large for the stack */
	uint32_t writes = (uint32_t)u64_min(r->nr_pages / 16, COW_WRITES);
	int err = fleet_command_one(&r->fleet, 0, TENANT_COW, writes, &reply);

	if (!err && reply.v[0] >= COW_ENOUGH)
		round_value(r->out, "cow_ns", (double)reply.v[1]);
	return err;
}

static void on_verify(void *arg, const struct tenant_reply *reply)
{
	uint64_t *bad = arg;

	if (reply->v[0])
		complain("process %d: %lu pages hold wrong bytes, the first is page %lu",
			 (int)reply->tid[0], reply->v[0], reply->v[1]);
	*bad += reply->v[0];
}

static int verify(struct run *r)
{
	uint64_t bad = 0;
	int err;

	if (r->guests)
		err = guests_verify(&r->fleet, r->cfg->size_mib);
	else if (r->real)
		err = real_verify(&r->fleet, r->cfg->size_mib);
	else
		err = fleet_command(&r->fleet, TENANT_VERIFY, 0, on_verify, &bad);
	if (bad)
		err = -EILSEQ;
	if (err == -EILSEQ)
		round_note(r->out, "%s LOST DATA (%lu pages)", side_name[r->side.id], bad);
	return err;
}

/* ---- the runs ---- */

static int run_undisturbed(struct run *r)
{
	bool real = r->real;
	struct memory before;
	int merge, err = memory_look(r, &before);

	merge = err ? err : run_merge(r);
	if (merge && merge != -ETIME)
		return merge;
	if (!merge && !r->expected && !r->open_end)
		err = memory_of_page(r, &before);
	if (!merge && !err)
		err = measure_rest(r);
	err = err ? err : side_set(&r->side, "run", "0");
	/* A frame that no process has mapped yet is in nobody's PSS, and yet it is there. */
	if (!err && !real)
		err = fleet_command(&r->fleet, TENANT_TOUCH, 0, NULL, NULL);
	err = err ? err : memory_saved(r, &before);
	if (!err && !real)
		err = measure_cow(r);
	err = err ? err : verify(r);
	return err ? err : merge;
}

static int run_probed(struct run *r)
{
	int merge = stalls_measure(r), err = 0;

	if (!merge || merge == -ETIME)
		err = verify(r);
	return err ? err : merge;
}

static int ask_alone(struct run *r, struct hist *h)
{
	int err = corunner_ask(r->corunner);

	err = err ? err : stop_sleep_ms(ALONE_MS);
	return err ? err : corunner_told(r->corunner, h);
}

/* Merge beside a server, and tell what its users feel of it. */
static int run_beside(struct run *r)
{
	static struct hist alone, beside; /* too large for the stack */
	double p99, p99_alone;
	int merge, err = corunner_start(&r->corunner);

	err = err ? err : ask_alone(r, &alone);
	err = err ? err : corunner_ask(r->corunner);
	merge = err ? err : run_merge(r);
	if (merge && merge != -ETIME)
		return merge;
	err = corunner_told(r->corunner, &beside);
	if (err)
		return err;
	p99 = hist_quantile(&beside, 0.99);
	p99_alone = hist_quantile(&alone, 0.99);
	round_value(r->out, "beside_alone_p50_us", hist_quantile(&alone, 0.5) / 1e3);
	round_value(r->out, "beside_alone_us", p99_alone / 1e3);
	round_value(r->out, "beside_alone_p999_us", hist_quantile(&alone, 0.999) / 1e3);
	round_value(r->out, "beside_p50_us", hist_quantile(&beside, 0.5) / 1e3);
	round_value(r->out, "beside_p99_us", p99 / 1e3);
	round_value(r->out, "beside_p999_us", hist_quantile(&beside, 0.999) / 1e3);
	round_value(r->out, "beside_excess_us", fmax(p99 - p99_alone, 1) / 1e3);
	err = verify(r);
	return err ? err : merge;
}

static int run_cost(struct run *r)
{
	int err = run_merge(r);

	return err ? err : verify(r);
}

/* One run in processes of its own. The note says what the run cannot say for itself. */
static int run_with(const struct bench_config *cfg, int side, struct round *out,
		    int (*what)(struct run *r))
{
	static struct run r; /* a fleet is too large for the stack */
	int err = run_start(&r, cfg, side, out);

	err = err ? err : what(&r);
	run_stop(&r);
	if (err && bench_stop)
		err = -EINTR;
	if (err == -EINTR)
		round_note(out, "%s: interrupted", side_name[side]);
	else if (err && err != -ETIME)
		round_note(out, "%s: failed: %s", side_name[side], strerror(-err));
	return err;
}

/*
 * A prober writes back the word that it has read, so that it must be the only one that writes. In
 * a family its stores would merge with nothing, and a few pages are not enough for it.
 */
static bool is_probed(const struct bench_config *cfg)
{
	enum manner m = cfg->workload.manner;

	return !workload_is_real(cfg->workload.contents) && m != MANNER_CHURN &&
	       m != MANNER_SPARSE && m != MANNER_FORKED;
}

int measure_round(const struct bench_config *cfg, int side, struct round *out)
{
	int err;

	if (cfg->workload.manner == MANNER_BESIDE)
		return run_with(cfg, side, out, run_beside);
	err = run_with(cfg, side, out, run_undisturbed);
	if (err || !is_probed(cfg))
		return err;
	return run_with(cfg, side, out, run_probed);
}

int measure_cost(const struct bench_config *cfg, int side, struct round *out)
{
	return run_with(cfg, side, out, run_cost);
}

/* SPDX-License-Identifier: MIT */
/*
 * bench_measure.c - one round on one side.
 *
 * Two runs with fresh processes. The first is undisturbed: all memory is filled and registered
 * while run = 0, then the clock starts with run = 1, so that both sides begin with everything in place
 * and neither is charged for the order in which processes arrive; what registration itself costs is
 * counted in CPU and reported. The second run has probers in the clients and gives stalls only, since
 * their stores undo merges.
 *
 * CPU is that of ksmd or the daemon, up to the last merge, and of every thread in the clients that the
 * program did not make, and of the registering calls. At the end of each run every byte is checked.
 *
 * Real programs (bench_real.c) have one run: they hold no probers, and nobody knows beforehand how many
 * of their pages are alike; so their end is taken from the curve of what was merged when.
 *
 * A run that does not come to its end is given up after cfg->limit_s: what is known by then is kept,
 * the bytes are checked all the same, and a note says what is missing.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
	POLL_MS = 5,     /* a hundredth of what a run takes at least, and no load */
	QUIET_MS = 2000, /* no merge for so long, and two passes: nothing more will come */
	REST_PASSES = 10,
	REST_MIN_PASSES = 2,
	REST_MS = 5000, /* where ten passes take longer, fewer will do */
	DIRTY_PASS_MS = 20000,
	COW_WRITES = 4096,
	/*
	 * Bursts of all probers together: enough for a 99.9th percentile within half a second, and a
	 * fifth of a CPU. Each has a store to a page of its own, so that many pages are needed for all
	 * of them to be merged again in time; as many processes as have them get a prober.
	 */
	BURSTS_PER_S = 20000,
	PROBED_PAGES = 32768,
	MIN_PROBERS = 2,
	FEW = 8, /* processes whose agents are looked at in every poll */
	MAX_CURVE = BENCH_LIMIT_S * 1000 / POLL_MS * 10,
	CALM_PERMILLE = 5, /* programs go on writing: so little of the gain is no progress */
	VMA_BYTES = 220,   /* struct vm_area_struct and its share of a maple node (measured) */
};

struct run {
	const struct bench_config *cfg;
	struct round *out;
	struct side side;
	struct fleet fleet;
	uint64_t nr_pages, expected; /* per process; in all */
	uint64_t register_cpu_ns, register_wall_ns;
};

struct settled {
	uint64_t ns;  /* from the start to the last change */
	uint64_t cpu; /* of the side's own thread or process, and of few clients' agents, by then */
	uint64_t merged;
};

void round_note(struct round *r, const char *fmt, ...)
{
	va_list ap;

	r->incomplete = true;
	if (*r->note)
		return; /* what comes after is a consequence */
	va_start(ap, fmt);
	vsnprintf(r->note, sizeof(r->note), fmt, ap);
	va_end(ap);
	complain("%s", r->note);
}

static int merged_now(struct run *r, uint64_t *merged)
{
	uint64_t zero = 0;
	int err = side_get(&r->side, "pages_sharing", merged);

	if (!err && r->cfg->workload->zero)
		err = side_get(&r->side, "ksm_zero_pages", &zero);
	*merged += zero;
	return err;
}

static void on_register(void *arg, const struct worker_reply *reply)
{
	struct run *r = arg;

	r->register_cpu_ns += reply->v[0];
	if (reply->v[1] > r->register_wall_ns)
		r->register_wall_ns = reply->v[1];
}

/* The side's own, and that of agents, unless they are many: then only at the end. */
static int cpu_now(struct run *r, bool end, uint64_t *ns)
{
	uint64_t agents = 0;
	int err = side_cpu_ns(&r->side, ns);

	if (!err && (r->fleet.nr <= FEW || end))
		err = fleet_agents_cpu_ns(&r->fleet, &agents);
	*ns += agents;
	return err;
}

/*
 * Take the look of one poll into account. With a goal, what counts is a change of what is merged (with
 * `rising`, a new maximum: stores undo merges all the time), otherwise the number of passes. Returns
 * 1 at the end: the goal is reached, or nothing has changed for QUIET_MS and two passes.
 */
static int settle_look(struct run *r, uint64_t goal, bool rising, uint64_t t, struct settled *s,
		       uint64_t *scans_at_change)
{
	uint64_t merged, scans;
	int err = merged_now(r, &merged);

	err = err ? err : side_get(&r->side, "full_scans", &scans);
	if (err)
		return err;
	if (rising ? merged > s->merged : merged != s->merged || (!goal && scans >= 2)) {
		s->merged = merged;
		s->ns = t;
		*scans_at_change = scans;
		err = cpu_now(r, false, &s->cpu);
		if (err)
			return err;
	}
	if (goal ? merged >= goal : scans >= 2)
		return 1;
	return goal && scans >= *scans_at_change + 2 && t > s->ns + QUIET_MS * 1000000ull;
}

/* Returns -ETIME, with a note, when it takes longer than the limit; *s stands then as well. */
static int settle(struct run *r, uint64_t start, uint64_t goal, bool rising, struct settled *s)
{
	uint64_t t, scans_at_change = 0;
	int end;

	memset(s, 0, sizeof(*s));
	for (;;) {
		t = now_ns() - start;
		end = settle_look(r, goal, rising, t, s, &scans_at_change);
		if (end)
			return end < 0 ? end : 0;
		if (t > r->cfg->limit_s * 1000000000ull)
			break;
		end = bench_sleep_ms(POLL_MS);
		if (end)
			return end;
	}
	round_note(r->out,
		   "%s: no end of merging within %u s%s (%lu of %lu pages, last change at %.1f s)",
		   side_name[r->side.id], r->cfg->limit_s, rising ? " with stall probes" : "",
		   s->merged, goal, (double)s->ns / 1e9);
	return -ETIME;
}

/* ---- the same where no goal is known ---- */

static struct settled curve[MAX_CURVE];

/*
 * Until what is merged has hardly grown for QUIET_MS and two passes. The time of the last merge is then
 * that at which 99 % of the end was reached: the programs' own writes undo and redo a little for ever.
 */
static int settle_unknown(struct run *r, uint64_t start, struct settled *s)
{
	uint64_t scans, at_rest = 0, t_rest = 0, scans_rest = 0;
	int nr = 0, err;

	for (;;) {
		struct settled *c = &curve[nr];

		c->ns = now_ns() - start;
		err = merged_now(r, &c->merged);
		err = err ? err : side_get(&r->side, "full_scans", &scans);
		err = err ? err : cpu_now(r, false, &c->cpu);
		if (err)
			return err;
		if (c->merged > at_rest &&
		    (c->merged - at_rest) * 1000 > c->merged * CALM_PERMILLE) {
			at_rest = c->merged;
			t_rest = c->ns;
			scans_rest = scans;
		}
		if (scans >= scans_rest + 2 && c->ns > t_rest + QUIET_MS * 1000000ull)
			break;
		if (c->ns > r->cfg->limit_s * 1000000000ull || nr == MAX_CURVE - 1) {
			round_note(r->out,
				   "%s: merging did not come to rest within %u s (%lu pages)",
				   side_name[r->side.id], r->cfg->limit_s, c->merged);
			*s = *c;
			return -ETIME;
		}
		nr++;
		err = bench_sleep_ms(POLL_MS);
		if (err)
			return err;
	}
	for (int i = 0; i <= nr; i++)
		if (curve[i].merged >= curve[nr].merged * 99 / 100) {
			*s = curve[i];
			break;
		}
	return 0;
}

static int wait_passes(struct run *r, uint64_t from, uint64_t passes, uint64_t timeout_ms)
{
	uint64_t scans, start = now_ns();
	int err;

	do {
		err = side_get(&r->side, "full_scans", &scans);
		if (!err && scans >= from + passes)
			return 0;
		if (!err && now_ns() - start > timeout_ms * 1000000)
			return -ETIME;
		err = err ? err : bench_sleep_ms(POLL_MS);
	} while (!err);
	return err;
}

static void on_dirty(void *arg, const struct worker_reply *reply)
{
	uint64_t *sum = arg;

	sum[0] += reply->v[0];
	sum[1] += reply->v[1];
}

/* Further passes: over calm memory, or with 1 % of it rewritten for every second pass. */
static int measure_rest(struct run *r)
{
	double *v = r->out->value;
	uint64_t cpu0, cpu1, scans0, scans1, dirty[2] = { 0, 0 };
	int err = side_get(&r->side, "full_scans", &scans0);

	/* What follows the last merge once is no part of a pass at rest. */
	err = err ? err : wait_passes(r, scans0, REST_PASSES, REST_MS);
	err = err == -ETIME ? 0 : err;
	err = err ? err : side_get(&r->side, "full_scans", &scans0);
	err = err ? err : cpu_now(r, true, &cpu0);
	if (r->cfg->workload->dirty) {
		for (uint32_t i = 0; i < REST_PASSES / 2 && !err; i++) {
			err = fleet_command(&r->fleet, WOP_DIRTY, i + 1, on_dirty, dirty);
			err = err ? err : side_get(&r->side, "full_scans", &scans1);
			err = err ? err : wait_passes(r, scans1, 2, DIRTY_PASS_MS);
		}
		if (dirty[0])
			v[M_DIRTY_NS] = (double)dirty[1] / (double)dirty[0];
	} else if (!err) {
		err = wait_passes(r, scans0, REST_PASSES, REST_MS);
		if (err == -ETIME)
			err = wait_passes(r, scans0, REST_MIN_PASSES, r->cfg->limit_s * 1000);
	}
	if (err == -ETIME) {
		round_note(r->out, "%s: passes over calm memory take longer than %u s",
			   side_name[r->side.id], r->cfg->limit_s / REST_MIN_PASSES);
		return 0;
	}
	err = err ? err : cpu_now(r, true, &cpu1);
	err = err ? err : side_get(&r->side, "full_scans", &scans1);
	if (!err)
		v[M_REST_CPU_MS] = (double)(cpu1 - cpu0) / 1e6 / (double)(scans1 - scans0);
	return err;
}

/*
 * Memory in use on the whole machine, caches aside, in bytes. Not "free" memory: the kernel keeps freed
 * pages on lists of each CPU, hundreds of MiB of them, which /proc/meminfo counts as neither.
 */
static double system_used(void)
{
	static const char *const part[] = { "\nAnonPages:", "\nShmem:", "\nPageTables:",
					    "\nSecPageTables:", "\nSlab:" };
	char text[4096];
	double sum = 0;

	if (file_read("/proc/meminfo", text, sizeof(text)) < 0)
		return NAN;
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		const char *p = strstr(text, part[i]);

		if (p) /* not every kernel has them all */
			sum += 1024.0 * strtod(p + strlen(part[i]), NULL);
	}
	return sum;
}

static int memory_after(struct run *r, const struct fleet_memory *before, double used_before)
{
	double saved, vmas, clients = r->fleet.nr, *v = r->out->value;
	struct fleet_memory after;
	uint64_t metadata;
	int err = fleet_memory(&r->fleet, &after);

	err = err ? err : side_metadata(&r->side, &metadata);
	if (err)
		return err;
	saved = (double)before->pss - (double)after.pss;
	vmas = (double)after.vmas - (double)before->vmas;
	v[M_VMAS] = vmas / clients;
	if (!r->cfg->workload->real)
		v[M_REGION_VMAS] =
			((double)after.region_vmas - (double)before->region_vmas) / clients;
	v[M_SAVED_MIB] = saved / 1048576;
	v[M_SAVED_NET_MIB] = (saved - (double)metadata - vmas * VMA_BYTES -
			      ((double)after.pte - (double)before->pte)) /
			     1048576;
	v[M_SAVED_SYSTEM_MIB] = (used_before - system_used()) / 1048576;
	return 0;
}

static int measure_cow(struct run *r)
{
	static struct worker_reply reply;
	uint64_t writes = r->nr_pages / 16 < COW_WRITES ? r->nr_pages / 16 : COW_WRITES;
	int err = fleet_command_one(&r->fleet, 0, WOP_COW, (uint32_t)writes, &reply);

	if (!err && reply.v[0] >= 16) /* fewer say nothing */
		r->out->value[M_COW_NS] = (double)reply.v[1];
	return err;
}

static void on_verify(void *arg, const struct worker_reply *reply)
{
	uint64_t *bad = arg;

	if (reply->v[0])
		complain("process %d: %llu pages hold wrong bytes, the first is page %llu",
			 (int)reply->tid[0], (unsigned long long)reply->v[0],
			 (unsigned long long)reply->v[1]);
	*bad += reply->v[0];
}

static int verify(struct run *r)
{
	uint64_t bad = 0;
	int err;

	if (r->cfg->workload->real)
		err = real_verify(&r->fleet, r->cfg->size_mib);
	else
		err = fleet_command(&r->fleet, WOP_VERIFY, 0, on_verify, &bad);
	if (bad)
		err = -EILSEQ;
	if (err == -EILSEQ)
		round_note(r->out, "%s LOST DATA (%lu pages)", side_name[r->side.id], bad);
	return err;
}

static int run_start(struct run *r, const struct bench_config *cfg, int side, struct round *out)
{
	int err;

	memset(r, 0, sizeof(*r));
	r->cfg = cfg;
	r->out = out;
	r->nr_pages = (uint64_t)cfg->size_mib * (1048576 / BENCH_PAGE);
	r->expected = workload_expected(cfg->workload, cfg->processes, r->nr_pages);
	err = side_start(&r->side, side, cfg);
	memcpy(out->knobs, r->side.knobs_text, KNOBS_TEXT);
	if (err)
		return err;
	return cfg->workload->real ? real_start(&r->fleet, &r->side, cfg->size_mib) :
				     fleet_start(&r->fleet, &r->side, r->nr_pages);
}

/* Processes first: while they live, what they have merged cannot be given up. */
static void run_stop(struct run *r)
{
	fleet_stop(&r->fleet);
	side_stop(&r->side);
}

/*
 * Figures of a machine that does something else besides are to be doubted. /proc/stat counts in hundredths
 * of seconds, which is good enough for that.
 */
static int others(struct run *r, double busy0, uint64_t cpu0, uint64_t start)
{
	uint64_t cpu1;
	double elapsed = (double)(now_ns() - start) / 1e9, busy = machine_busy() - busy0;
	int err = cpu_now(r, true, &cpu1);

	if (!err)
		r->out->value[M_OTHERS_PCT] =
			fmax(0, 100 * (busy - (double)(cpu1 - cpu0) / 1e9) / elapsed);
	return err;
}

/* Register (real programs are already), start, and wait for the end of merging. */
static int run_merge(struct run *r)
{
	bool real = r->cfg->workload->real;
	double *v = r->out->value;
	struct settled s = { 0 };
	uint64_t start, cpu0, cpu_registered, agents = 0;
	double busy0;
	int err = cpu_now(r, false, &cpu0);

	if (!err && !real)
		err = fleet_command(&r->fleet, WOP_REGISTER, 0, on_register, r);
	start = now_ns();
	busy0 = machine_busy();
	err = err ? err : cpu_now(r, true, &cpu_registered);
	err = err ? err : side_set(&r->side, "run", "1");
	if (!err)
		err = real ? settle_unknown(r, start, &s) :
			     settle(r, start, r->expected, false, &s);
	if (r->expected && (!err || err == -ETIME))
		v[M_MERGED_PCT] = 100.0 * (double)s.merged / (double)r->expected;
	if (!err && r->fleet.nr > FEW)
		err = fleet_agents_cpu_ns(&r->fleet, &agents);
	if (err)
		return err;
	err = others(r, busy0, cpu_registered, start);
	v[M_MERGE_S] = (double)s.ns / 1e9;
	v[M_CPU_S] = (double)(s.cpu - cpu0 + agents + r->register_cpu_ns) / 1e9;
	if (!real)
		v[M_REGISTER_MS] = (double)r->register_wall_ns / 1e6;
	return err;
}

/* What a page that is tracked and not merged costs, where none is merged. */
static int measure_page_bytes(struct run *r, uint64_t before)
{
	uint64_t now, tracked = r->cfg->processes * r->nr_pages;
	int err = side_metadata_anon(&r->side, &now);

	if (!err)
		r->out->value[M_PAGE_BYTES] = ((double)now - (double)before) / (double)tracked;
	return err;
}

static int run_undisturbed(struct run *r)
{
	bool real = r->cfg->workload->real;
	struct fleet_memory before;
	uint64_t anon_before = 0;
	double used_before;
	int merge, err = fleet_memory(&r->fleet, &before);

	used_before = system_used();
	err = err ? err : side_metadata_anon(&r->side, &anon_before);
	merge = err ? err : run_merge(r);
	if (merge && merge != -ETIME)
		return merge;
	if (!merge && !r->expected && !real)
		err = measure_page_bytes(r, anon_before);
	if (!merge && !err)
		err = measure_rest(r);
	err = err ? err : side_set(&r->side, "run", "0");
	/* A frame that no process has mapped yet is in nobody's PSS, and yet it is there. */
	if (!err && !real)
		err = fleet_command(&r->fleet, WOP_TOUCH, 0, NULL, NULL);
	err = err ? err : memory_after(r, &before, used_before);
	if (!err && !real)
		err = measure_cow(r);
	err = err ? err : verify(r);
	return err ? err : merge;
}

static int nr_probers(const struct run *r)
{
	int nr = (int)((PROBED_PAGES + r->nr_pages - 1) / r->nr_pages);

	nr = nr < MIN_PROBERS ? MIN_PROBERS : nr;
	return nr < r->fleet.nr ? nr : r->fleet.nr;
}

static int probers(struct run *r, enum probe_op what, struct worker_reply *sum)
{
	static struct worker_reply reply;
	int nr = nr_probers(r), err = 0;
	uint32_t period_us = (uint32_t)(1000000 * nr / BURSTS_PER_S);

	for (int i = 0; i < nr && !err; i++) {
		err = fleet_command_one(&r->fleet, i, WOP_PROBE, what | period_us << 8, &reply);
		if (err || !sum)
			continue;
		for (int h = 0; h < PROBE_NR; h++)
			hist_merge(&sum->hist[h], &reply.hist[h]);
		sum->v[0] += reply.v[0];
		sum->v[1] = reply.v[1] > sum->v[1] ? reply.v[1] : sum->v[1];
	}
	return err;
}

static void stalls(const struct worker_reply *sum, double v[M_NR])
{
	const struct hist *h = sum->hist;
	const struct hist *load = &h[PROBE_LOAD], *load_control = &h[PROBE_CONTROL_LOAD];
	const struct hist *store = &h[PROBE_STORE], *store_control = &h[PROBE_CONTROL_STORE];

	v[M_LOAD_P999_US] = hist_quantile(load, 0.999) / 1e3;
	v[M_LOAD_MAX_US] = (double)load->max / 1e3;
	v[M_LOAD_CONTROL_US] = hist_quantile(load_control, 0.999) / 1e3;
	v[M_LOAD_BEYOND_US] = hist_quantile_beyond(load, load_control, 0.999) / 1e3;
	v[M_STORE_P999_US] = hist_quantile(store, 0.999) / 1e3;
	v[M_STORE_MAX_US] = (double)store->max / 1e3;
	v[M_STORE_CONTROL_US] = hist_quantile(store_control, 0.999) / 1e3;
	v[M_STORE_BEYOND_US] = hist_quantile_beyond(store, store_control, 0.999) / 1e3;
	v[M_CONTROL_MAX_US] = fmax((double)load_control->max, (double)store_control->max) / 1e3;
	v[M_PROBES] = (double)sum->v[0];
	v[M_PROBE_GAP_MS] = (double)sum->v[1] / 1e6;
}

static int run_probed(struct run *r)
{
	static struct worker_reply sum;
	struct settled s;
	uint64_t start;
	int merge, err = fleet_command(&r->fleet, WOP_REGISTER, 0, on_register, r);

	memset(&sum, 0, sizeof(sum));
	err = err ? err : probers(r, PROBE_START, NULL);
	err = err ? err : bench_sleep_ms(200); /* probers reach their stride */
	err = err ? err : probers(r, PROBE_FORGET, NULL);
	start = now_ns();
	err = err ? err : side_set(&r->side, "run", "1");
	/* Stores keep undoing merges, so all of them will never be reached. */
	merge = err ? err : settle(r, start, r->expected * 3 / 4, true, &s);
	if (merge && merge != -ETIME)
		return merge;
	err = probers(r, PROBE_STOP, &sum);
	if (err)
		return err;
	stalls(&sum, r->out->value);
	err = verify(r);
	return err ? err : merge;
}

static void round_init(struct round *out)
{
	memset(out, 0, sizeof(*out));
	for (int i = 0; i < M_NR; i++)
		out->value[i] = NAN;
}

/* One run in processes of its own. What it cannot say for itself, the note does. */
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

int measure_round(const struct bench_config *cfg, int side, struct round *out)
{
	int err;

	round_init(out);
	err = run_with(cfg, side, out, run_undisturbed);
	if (err || cfg->workload->real)
		return err;
	return run_with(cfg, side, out, run_probed);
}

static int run_cost(struct run *r)
{
	int err = run_merge(r);

	return err ? err : verify(r);
}

int measure_cost(const struct bench_config *cfg, int side, struct round *out)
{
	round_init(out);
	return run_with(cfg, side, out, run_cost);
}

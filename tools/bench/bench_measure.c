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
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	POLL_MS = 5,     /* a hundredth of what a run takes at least, and no load */
	QUIET_MS = 2000, /* no merge for so long, and two passes: nothing more will come */
	SETTLE_TIMEOUT_S = 300,
	REST_PASSES = 10,
	REST_MIN_PASSES = 2,
	REST_MS = 10000, /* enough for ten passes at a second each */
	COW_WRITES = 4096,
	MAX_PROBERS = 2, /* more would compete for the CPUs with what they watch */
	VMA_BYTES = 220, /* struct vm_area_struct and its share of a maple node (measured) */
};

struct run {
	const struct bench_config *cfg;
	struct side side;
	struct fleet fleet;
	uint64_t nr_pages, expected; /* per process; in all */
	uint64_t register_cpu_ns, register_wall_ns;
};

struct settled {
	uint64_t ns;  /* from the start to the last change */
	uint64_t cpu; /* of the side's own thread or process at that time */
	uint64_t merged;
};

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

/*
 * Until `goal` pages are merged, or, failing that, nothing has changed for QUIET_MS and two passes.
 * With a goal of 0 until two passes are over.
 */
static int settle(struct run *r, uint64_t start, uint64_t goal, struct settled *s)
{
	uint64_t merged, scans, scans_at_change = 0, t;
	int err;

	memset(s, 0, sizeof(*s));
	do {
		err = merged_now(r, &merged);
		err = err ? err : side_get(&r->side, "full_scans", &scans);
		if (err)
			return err;
		t = now_ns() - start;
		if (merged != s->merged || (!goal && scans >= 2)) {
			s->merged = merged;
			s->ns = t;
			scans_at_change = scans;
			err = side_cpu_ns(&r->side, &s->cpu);
			if (err)
				return err;
		}
		if (goal ? merged >= goal : scans >= 2)
			return 0;
		if (goal && scans >= scans_at_change + 2 && t > s->ns + QUIET_MS * 1000000ull)
			return 0;
		if (t > SETTLE_TIMEOUT_S * 1000000000ull) {
			complain("%s: no end of merging after %d s (%llu of %llu pages)",
				 side_name[r->side.id], SETTLE_TIMEOUT_S,
				 (unsigned long long)merged, (unsigned long long)goal);
			return -ETIMEDOUT;
		}
		err = bench_sleep_ms(POLL_MS);
	} while (!err);
	return err;
}

static int all_cpu(struct run *r, uint64_t *ns)
{
	uint64_t agents;
	int err = side_cpu_ns(&r->side, ns);

	err = err ? err : fleet_agents_cpu_ns(&r->fleet, &agents);
	if (!err)
		*ns += agents;
	return err;
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
			return -ETIMEDOUT;
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
static int measure_rest(struct run *r, double v[M_NR])
{
	uint64_t cpu0, cpu1, scans0, scans1, dirty[2] = { 0, 0 };
	int err = side_get(&r->side, "full_scans", &scans0);

	err = err ? err : all_cpu(r, &cpu0);
	if (r->cfg->workload->dirty) {
		for (uint32_t i = 0; i < REST_PASSES / 2 && !err; i++) {
			err = fleet_command(&r->fleet, WOP_DIRTY, i + 1, on_dirty, dirty);
			err = err ? err : side_get(&r->side, "full_scans", &scans1);
			err = err ? err : wait_passes(r, scans1, 2, SETTLE_TIMEOUT_S * 1000);
		}
		if (dirty[0])
			v[M_DIRTY_NS] = (double)dirty[1] / (double)dirty[0];
	} else if (!err) {
		err = wait_passes(r, scans0, REST_PASSES, REST_MS);
		if (err == -ETIMEDOUT)
			err = wait_passes(r, scans0, REST_MIN_PASSES, SETTLE_TIMEOUT_S * 1000);
	}
	err = err ? err : all_cpu(r, &cpu1);
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

static int memory_after(struct run *r, const struct fleet_memory *before, double used_before,
			double v[M_NR])
{
	struct fleet_memory after;
	uint64_t metadata;
	double saved;
	int err = fleet_memory(&r->fleet, &after);

	err = err ? err : side_metadata(&r->side, &metadata);
	if (err)
		return err;
	saved = (double)before->pss - (double)after.pss;
	v[M_VMAS] = (double)after.vmas - (double)before->vmas;
	v[M_SAVED_MIB] = saved / 1048576;
	v[M_SAVED_NET_MIB] = (saved - (double)metadata - v[M_VMAS] * VMA_BYTES -
			      ((double)after.pte - (double)before->pte)) /
			     1048576;
	v[M_SAVED_SYSTEM_MIB] = (used_before - system_used()) / 1048576;
	return 0;
}

static int measure_cow(struct run *r, double v[M_NR])
{
	static struct worker_reply reply;
	uint64_t writes = r->nr_pages / 16 < COW_WRITES ? r->nr_pages / 16 : COW_WRITES;
	int err = fleet_command_one(&r->fleet, 0, WOP_COW, (uint32_t)writes, &reply);

	if (!err && reply.v[0] >= 16) /* fewer say nothing */
		v[M_COW_NS] = hist_quantile(&reply.hist[0], 0.5);
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
	int err = fleet_command(&r->fleet, WOP_VERIFY, 0, on_verify, &bad);

	if (!err && bad) {
		complain("%s LOST DATA: %llu pages", side_name[r->side.id],
			 (unsigned long long)bad);
		err = -EILSEQ;
	}
	return err;
}

static int run_start(struct run *r, const struct bench_config *cfg, int side)
{
	int err;

	memset(r, 0, sizeof(*r));
	r->cfg = cfg;
	r->nr_pages = (uint64_t)cfg->size_mib * (1048576 / BENCH_PAGE);
	r->expected = workload_expected(cfg->workload, cfg->processes, r->nr_pages);
	err = side_start(&r->side, side, cfg);
	return err ? err : fleet_start(&r->fleet, &r->side, r->nr_pages);
}

/* Processes first: while they live, what they have merged cannot be given up. */
static void run_stop(struct run *r)
{
	fleet_stop(&r->fleet);
	side_stop(&r->side);
}

static int run_undisturbed(struct run *r, double v[M_NR])
{
	struct fleet_memory before;
	struct settled s;
	uint64_t start, cpu0, agents = 0;
	double used_before;
	int err = fleet_memory(&r->fleet, &before);

	used_before = system_used();
	err = err ? err : side_cpu_ns(&r->side, &cpu0);
	err = err ? err : fleet_command(&r->fleet, WOP_REGISTER, 0, on_register, r);
	start = now_ns();
	err = err ? err : side_set(&r->side, "run", "1");
	err = err ? err : settle(r, start, r->expected, &s);
	err = err ? err : fleet_agents_cpu_ns(&r->fleet, &agents);
	if (err)
		return err;
	v[M_MERGE_S] = (double)s.ns / 1e9;
	v[M_CPU_S] = (double)(s.cpu - cpu0 + agents + r->register_cpu_ns) / 1e9;
	v[M_REGISTER_MS] = (double)r->register_wall_ns / 1e6;
	if (r->expected)
		v[M_MERGED_PCT] = 100.0 * (double)s.merged / (double)r->expected;
	err = measure_rest(r, v);
	err = err ? err : side_set(&r->side, "run", "0");
	/* A frame that no process has mapped yet is in nobody's PSS, and yet it is there. */
	err = err ? err : fleet_command(&r->fleet, WOP_TOUCH, 0, NULL, NULL);
	err = err ? err : memory_after(r, &before, used_before, v);
	err = err ? err : measure_cow(r, v);
	return err ? err : verify(r);
}

static int probers(struct run *r, uint32_t what, struct hist sum[2])
{
	static struct worker_reply reply;
	int err = 0;

	for (int i = 0; i < r->fleet.nr && i < MAX_PROBERS && !err; i++) {
		err = fleet_command_one(&r->fleet, i, WOP_PROBE, what, &reply);
		if (!err && sum) {
			hist_merge(&sum[0], &reply.hist[0]);
			hist_merge(&sum[1], &reply.hist[1]);
		}
	}
	return err;
}

static int run_probed(struct run *r, double v[M_NR])
{
	static struct hist sum[2];
	struct settled s;
	uint64_t start;
	int err = fleet_command(&r->fleet, WOP_REGISTER, 0, on_register, r);

	memset(sum, 0, sizeof(sum));
	err = err ? err : probers(r, 1, NULL);
	err = err ? err : bench_sleep_ms(200); /* probers reach their stride */
	err = err ? err : probers(r, 2, NULL);
	start = now_ns();
	err = err ? err : side_set(&r->side, "run", "1");
	/* Stores keep undoing merges, so all of them will never be reached. */
	err = err ? err : settle(r, start, r->expected * 3 / 4, &s);
	err = err ? err : probers(r, 0, sum);
	if (err)
		return err;
	v[M_LOAD_P999_US] = hist_quantile(&sum[0], 0.999) / 1e3;
	v[M_LOAD_MAX_US] = (double)sum[0].max / 1e3;
	v[M_STORE_P999_US] = hist_quantile(&sum[1], 0.999) / 1e3;
	v[M_STORE_MAX_US] = (double)sum[1].max / 1e3;
	return verify(r);
}

int measure_round(const struct bench_config *cfg, int side, double value[M_NR],
		  char knobs_text[KNOBS_TEXT])
{
	static struct run r; /* a fleet is too large for the stack */
	int err;

	for (int i = 0; i < M_NR; i++)
		value[i] = NAN;
	err = run_start(&r, cfg, side);
	memcpy(knobs_text, r.side.knobs_text, KNOBS_TEXT);
	err = err ? err : run_undisturbed(&r, value);
	run_stop(&r);
	if (err)
		return err;
	err = run_start(&r, cfg, side);
	err = err ? err : run_probed(&r, value);
	run_stop(&r);
	return err;
}

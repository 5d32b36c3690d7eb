/* SPDX-License-Identifier: MIT */
/* run.c - fresh processes on a fresh side, and what can be asked of the two together. */
#include "run.h"

#include <string.h>

#include "corunner.h"
#include "guests.h"
#include "kernel.h"
#include "real.h"

enum {
	FEW = 8,           /* processes whose agents are looked at in every poll */
	SPARSE_PAGES = 16, /* for each "MiB" of MANNER_SPARSE */
};

int run_start(struct run *r, const struct bench_config *cfg, int side, struct round *out)
{
	int err;

	memset(r, 0, sizeof(*r));
	r->cfg = cfg;
	r->out = out;
	r->nr_pages = (uint64_t)cfg->size_mib * (1048576 / BENCH_PAGE);
	if (cfg->workload.manner == MANNER_SPARSE)
		r->nr_pages = (uint64_t)cfg->size_mib * SPARSE_PAGES;
	r->guests = cfg->workload.contents == CONTENTS_GUESTS;
	r->real = workload_is_real(cfg->workload.contents);
	/* What is still shared by a fork counts as merged with the kernel, and not with ours. */
	r->open_end = r->real || cfg->workload.manner == MANNER_FORKED;
	if (!r->open_end)
		r->expected =
			workload_expected(cfg->workload.contents, cfg->processes, r->nr_pages);
	err = kernel_max_map_count(cfg->max_map_count);
	err = err ? err : side_start(&r->side, side, cfg, out);
	if (err)
		return err;
	if (r->guests)
		return guests_start(&r->fleet, &r->side, cfg->size_mib);
	return r->real ? real_start(&r->fleet, &r->side, cfg->size_mib) :
			 fleet_start(&r->fleet, &r->side, r->nr_pages);
}

/* Processes first: while they live, what they have merged cannot be given up. */
void run_stop(struct run *r)
{
	corunner_stop(&r->corunner);
	fleet_stop(&r->fleet);
	side_stop(&r->side);
}

int run_merged(struct run *r, uint64_t *merged)
{
	uint64_t zero = 0;
	int err = side_get(&r->side, "pages_sharing", merged);

	if (!err && r->cfg->workload.contents == CONTENTS_ZERO)
		err = side_get(&r->side, "ksm_zero_pages", &zero);
	*merged += zero;
	return err;
}

bool run_is_large(const struct run *r)
{
	return r->fleet.nr > FEW;
}

int run_cpu_ns(struct run *r, bool end, uint64_t *ns)
{
	uint64_t agents = 0;
	int err = side_cpu_ns(&r->side, ns);

	if (!err && (!run_is_large(r) || end))
		err = fleet_agents_cpu_ns(&r->fleet, &agents);
	*ns += agents;
	return err;
}

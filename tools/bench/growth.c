/* SPDX-License-Identifier: MIT */
/*
 * growth.c - does a page cost more where there are many, or many processes?
 *
 * The workload `clones` runs in four cases, each in a daemon of its own: a small and a large total
 * in two processes, and one total in two and in many processes. Each case gives the CPU time, and
 * the time, until all is merged, over the number of all pages. A quotient of 1 means that the cost
 * is proportional. The two cases of a quotient run one after the other, so that both see the same
 * machine.
 */
#include "growth.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "measure.h"
#include "round.h"
#include "workload.h"

enum { SIZE_FACTOR = 16, MANY = 200, MANY_MIB = 4 };

struct growth_case {
	unsigned int processes, size_mib;
	enum metric cpu, wall;
};

static int measure_case(const struct bench_config *cfg, int side, const struct growth_case *c,
			struct round *out)
{
	static struct round one;
	struct bench_config mine = *cfg;
	double pages = (double)c->processes * c->size_mib * (1048576.0 / BENCH_PAGE);
	int err;

	mine.workload = workload_find("clones");
	mine.processes = c->processes;
	mine.size_mib = c->size_mib;
	err = measure_cost(&mine, side, &one);
	out->value[c->cpu] = one.value[M_CPU_S] / pages * 1e6;
	out->value[c->wall] = one.value[M_MERGE_S] / pages * 1e6;
	out->value[M_OTHERS_PCT] = fmax(out->value[M_OTHERS_PCT], one.value[M_OTHERS_PCT]);
	memcpy(out->knobs, one.knobs, sizeof(out->knobs));
	fprintf(stderr, "    %3u x %4u MiB: %.2f us CPU, %.2f us per page\n", c->processes,
		c->size_mib, out->value[c->cpu], out->value[c->wall]);
	if (*one.note) {
		out->incomplete = true;
		snprintf(out->note, sizeof(out->note), "%ux%u MiB: %.200s", c->processes,
			 c->size_mib, one.note);
	}
	return err;
}

int growth_round(const struct bench_config *cfg, int side, struct round *out)
{
	unsigned int large = cfg->size_mib, small = large > SIZE_FACTOR ? large / SIZE_FACTOR : 1;
	const struct growth_case cases[] = {
		{ 2, small, M_PAGE_CPU_US, M_PAGE_WALL_US },
		{ 2, large, M_SIZE_CPU_US, M_SIZE_WALL_US },
		{ 2, MANY * MANY_MIB / 2, M_FEW_CPU_US, M_FEW_WALL_US },
		{ MANY, MANY_MIB, M_MANY_CPU_US, M_MANY_WALL_US },
	};
	double *v = out->value;
	int err = 0;

	memset(out, 0, sizeof(*out));
	for (int i = 0; i < M_NR; i++)
		v[i] = NAN;
	/* A case that does not end leaves the other cases, and with them the other quotient. */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && err != -EINTR; i++) {
		int failed = measure_case(cfg, side, &cases[i], out);

		err = failed ? failed : err;
	}
	v[M_GROW_SIZE_CPU] = v[M_SIZE_CPU_US] / v[M_PAGE_CPU_US];
	v[M_GROW_SIZE_WALL] = v[M_SIZE_WALL_US] / v[M_PAGE_WALL_US];
	v[M_GROW_MANY_CPU] = v[M_MANY_CPU_US] / v[M_FEW_CPU_US];
	v[M_GROW_MANY_WALL] = v[M_MANY_WALL_US] / v[M_FEW_WALL_US];
	return err;
}

/* SPDX-License-Identifier: MIT */
/* sample.c - see sample.h. */
#include "tools/ksmdctl/sample.h"

#include <stdlib.h>
#include <time.h>

#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/clients.h"

double now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int64_t agents_ns;

static void add_agent(struct talk *c, const char *dir, bool first)
{
	agents_ns = (first ? 0 : agents_ns) + ctl_number(c, dir, "agent_cpu_ns");
}

void take_sample(struct talk *c, struct sample *s)
{
	char *shared = ctl_value(c, "ksm", "pages_shared");

	*s = (struct sample){ .whole = shared };
	free(shared);
	s->run = ctl_number(c, "ksm", "run");
	s->clients = ctl_number(c, "ksm", "clients");
	s->at = now_seconds();
	if (!s->whole)
		return;
	s->shared = ctl_number(c, "ksm", "pages_shared");
	s->sharing = ctl_number(c, "ksm", "pages_sharing");
	s->unshared = ctl_number(c, "ksm", "pages_unshared");
	s->unstable = ctl_number(c, "ksm", "pages_volatile");
	s->zero = ctl_number(c, "ksm", "ksm_zero_pages");
	s->tracked = ctl_number(c, "ksm", "pages_tracked");
	s->full_scans = ctl_number(c, "ksm", "full_scans");
	s->cow_breaks = ctl_number(c, "ksm", "cow_breaks");
	s->profit = ctl_number(c, "ksm", "general_profit");
	s->metadata = ctl_number(c, "ksm", "metadata_bytes");
	s->added_vmas = ctl_number(c, "ksm", "added_vmas");
	s->frames_used = ctl_number(c, "ksm", "frames_used");
	s->frames_retired = ctl_number(c, "ksm", "frames_retired");
	s->debt = ctl_number(c, "ksm", "debt_bytes");
	s->debt_limit = ctl_number(c, "ksm", "debt_limit_bytes");
	s->held = ctl_number(c, "ksm", "merging_held");
	s->nr_indebted = ctl_number(c, "ksm", "domains_at_debt_limit");
	agents_ns = 0;
	each_client(c, add_agent, INT32_MAX);
	s->agent_ns = agents_ns;
	/* Last and together: the counters that rates are made of. */
	s->scanned = ctl_number(c, "ksm", "pages_scanned");
	s->merged = ctl_number(c, "ksm", "pages_merged");
	s->cpu_ns = ctl_number(c, "ksm", "scan_cpu_ns");
	s->at = now_seconds();
}

/* A restart of the daemon between the two times sets counters back: the rate is 0 then. */
static double rate(int64_t from, int64_t to, double seconds)
{
	return to > from && seconds > 0 ? (double)(to - from) / seconds : 0;
}

struct rates rates_between(const struct sample *a, const struct sample *b)
{
	double s = b->at - a->at;

	return (struct rates){
		.scanned = rate(a->scanned, b->scanned, s),
		.merged = rate(a->merged, b->merged, s),
		.cpu_percent = rate(a->cpu_ns, b->cpu_ns, s) / 1e7,
	};
}

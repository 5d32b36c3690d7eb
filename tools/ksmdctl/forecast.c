/* SPDX-License-Identifier: MIT */
/*
 * forecast.c - see forecast.h.
 *
 * The daemon is not asked: it may read only what programs offer, and this is for programs that do
 * not offer anything yet. This program reads with the rights of whoever runs it.
 */
#include "tools/ksmdctl/forecast.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/die.h"
#include "tools/memory/estimate.h"
#include "wire/abi.h"

static void print_json(const struct estimate_result *r)
{
	printf("{\"bytes\": %" PRIu64 ", \"saved\": %" PRIu64 ", \"saved_net\": %" PRId64
	       ", \"saved_alone\": %" PRIu64 ", \"zeros\": %" PRIu64 ", \"mappings\": %" PRIu64
	       ", \"read_ns\": %" PRIu64 ", \"merge_ns\": %" PRIu64 ", \"processes\": [",
	       r->pages * KSM_PAGE_SIZE, r->saved * KSM_PAGE_SIZE,
	       (int64_t)(r->saved * KSM_PAGE_SIZE) - (int64_t)r->metadata, r->alone * KSM_PAGE_SIZE,
	       r->zero * KSM_PAGE_SIZE, r->mappings, r->read_ns, r->merge_ns);
	for (size_t i = 0; i < r->nr; i++)
		printf("%s{\"pid\": %d, \"bytes\": %" PRIu64 ", \"mergeable\": %" PRIu64
		       ", \"on_frames\": %" PRIu64 ", \"mappings\": %" PRIu64 "}",
		       i ? ", " : "", (int)r->v[i].pid, r->v[i].pages * KSM_PAGE_SIZE,
		       r->v[i].mergeable * KSM_PAGE_SIZE, r->v[i].on_frames * KSM_PAGE_SIZE,
		       r->v[i].mappings);
	puts("]}");
}

void cmd_estimate(char **pids, bool json)
{
	struct estimate *e = estimate_new();
	struct estimate_result r;

	for (; e && *pids; pids++) {
		int err;

		if (!**pids || strlen(*pids) > 9 || strspn(*pids, "0123456789") != strlen(*pids))
			die(EXIT_USAGE, "not a process ID: %s", *pids);
		err = estimate_add(e, atoi(*pids));
		if (err == -EACCES || err == -EPERM)
			die(EXIT_REFUSED,
			    "%s: process %s: you may not read its memory; root may, and a user "
			    "that of his own programs (see kernel.yama.ptrace_scope)",
			    strerrorname_np(-err), *pids);
		if (err)
			die(EXIT_REFUSED, "%s: process %s: %s", strerrorname_np(-err), *pids,
			    strerror(-err));
	}
	if (!e || estimate_result(e, &r))
		die(EXIT_REFUSED, "ENOMEM: out of memory");
	if (json)
		print_json(&r);
	else
		estimate_print(&r, stdout);
	estimate_free(e);
}

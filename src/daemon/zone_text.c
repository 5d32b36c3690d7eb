/* SPDX-License-Identifier: MIT */
/* zone_text.c - see zone_text.h. All is in the form of the kernel's /proc/buddyinfo and extfrag. */
#include "daemon/zone_text.h"

#include <stdlib.h>

#include "pool/index.h"

const char *const zone_type_names[POOL_TYPES] = {
	[POOL_UNMOVABLE] = "unmovable",
	[POOL_MOVABLE] = "movable",
	[POOL_RESERVE] = "reserve",
};

static const uint64_t *runs_of(const struct attr *a, const void *values)
{
	return (const void *)((const char *)values + a->at);
}

void zone_show_runs(const struct attr *a, const void *values, struct text *out)
{
	const uint64_t *runs = runs_of(a, values);

	for (unsigned int o = 0; o < POOL_ORDERS; o++)
		text_printf(out, "%s%llu", o ? " " : "", (unsigned long long)runs[o]);
	text_printf(out, "\n");
}

static void show_index(const uint64_t *runs,
		       int (*index)(const uint64_t nr[POOL_ORDERS], unsigned int order),
		       struct text *out)
{
	for (unsigned int o = 0; o < POOL_ORDERS; o++) {
		int i = index(runs, o);

		text_printf(out, "%s%s%d.%03d", o ? " " : "", i < 0 ? "-" : "", abs(i) / 1000,
			    abs(i) % 1000);
	}
	text_printf(out, "\n");
}

void zone_show_unusable(const struct attr *a, const void *values, struct text *out)
{
	show_index(runs_of(a, values), index_unusable, out);
}

void zone_show_extfrag(const struct attr *a, const void *values, struct text *out)
{
	show_index(runs_of(a, values), index_fragmentation, out);
}

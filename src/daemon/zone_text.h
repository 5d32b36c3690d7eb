/* SPDX-License-Identifier: MIT */
/* zone_text.h - the words for a zone's free runs, alike in zone/N/ and in domain/D/zone/N/. */
#ifndef KSMD_ZONE_TEXT_H
#define KSMD_ZONE_TEXT_H

#include <stdint.h>

#include "daemon/attr.h"
#include "pool/pool.h"

extern const char *const zone_type_names[POOL_TYPES];

/* Show functions; the attribute is at a uint64_t[POOL_ORDERS], the free runs of each order. */
void zone_show_runs(const struct attr *a, const void *values, struct text *out);
void zone_show_unusable(const struct attr *a, const void *values, struct text *out);
void zone_show_extfrag(const struct attr *a, const void *values, struct text *out);

#define ZONE_RUNS(type, field)                                                                     \
	{ .name = "buddyinfo",                                                                     \
	  .help = "free runs of 1, 2, 4 ... 1024 frames side by side",                             \
	  .at = offsetof(type, field),                                                             \
	  .show = zone_show_runs },                                                                \
		{ .name = "unusable_index",                                                        \
		  .help = "share of the free frames that a run of 1, 2, 4 ... frames cannot have", \
		  .at = offsetof(type, field),                                                     \
		  .show = zone_show_unusable },                                                    \
	{                                                                                          \
		.name = "extfrag_index",                                                           \
		.help = "why there is no free run of 1, 2, 4 ... frames: towards 0 for want of "   \
			"frames, towards 1 because they are apart; -1 where there is one",         \
		.at = offsetof(type, field), .show = zone_show_extfrag                             \
	}

#endif

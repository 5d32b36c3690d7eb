/* SPDX-License-Identifier: MIT */
/*
 * unseen.h - where pages may be that the engine does not know and tracking will not report.
 *
 * A pass may come to a range between what the client did there and the message that says so. Then
 * the engine takes the pages that are there now for those of before, the message makes it forget
 * them, and tracking does not report these again. Only the page tables know them. So what ADD and
 * FORGET name is noted, and the next pass that comes by looks there (see_clean()).
 *
 * It is a worker that looks and not the thread that serves clients, because a look waits for the
 * client's mmap_lock, which a client can hold for seconds.
 *
 * Of more spans than a list has room for some grow and cover what lies between them: that costs a
 * longer look, and nothing else. The engine lock covers all lists.
 */
#ifndef KSM_UNSEEN_H
#define KSM_UNSEEN_H

#include <stdint.h>

#include "base/span.h"

#define UNSEEN_SPANS 16u

struct unseen {
	uint32_t nr;
	struct span at[UNSEEN_SPANS];
};

static inline struct span unseen_hull(struct span a, struct span b)
{
	return (struct span){ u64_min(a.start, b.start), u64_max(a.end, b.end) };
}

/* The span that covers the least that it did not when it grows to cover `at` as well. */
static inline uint32_t unseen_nearest(const struct unseen *u, struct span at)
{
	uint64_t least = UINT64_MAX;
	uint32_t best = 0;

	for (uint32_t i = 0; i < u->nr; i++) {
		uint64_t more = span_len(unseen_hull(u->at[i], at)) - span_len(u->at[i]);

		if (more < least) {
			least = more;
			best = i;
		}
	}
	return best;
}

static inline void unseen_note(struct unseen *u, struct span at)
{
	/* Those that it meets or touches become one with it. */
	for (uint32_t i = 0; i < u->nr;) {
		if (u->at[i].start <= at.end && at.start <= u->at[i].end) {
			at = unseen_hull(u->at[i], at);
			u->at[i] = u->at[--u->nr];
			i = 0;
		} else {
			i++;
		}
	}
	if (u->nr < UNSEEN_SPANS) {
		u->at[u->nr++] = at;
	} else {
		uint32_t i = unseen_nearest(u, at);

		u->at[i] = unseen_hull(u->at[i], at);
	}
}

/* *from becomes empty. */
static inline void unseen_move(struct unseen *to, struct unseen *from)
{
	for (uint32_t i = 0; i < from->nr; i++)
		unseen_note(to, from->at[i]);
	from->nr = 0;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * states.h - states and the moves between them as data, checked by one setter.
 *
 * A move that is not in the table is a mistake of the program's. A test build (-DKSM_SYSC_TEST, as
 * the fuzzers') aborts. A daemon that others rely on must not end for it: the setter logs the move,
 * leaves the state as it is and returns false, and the caller gives up what had the state.
 */
#ifndef KSM_STATES_H
#define KSM_STATES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/log.h"

#define STATE_BIT(state) (1u << (state))

struct states {
	const char *of; /* what has the state, for the log */
	const char *const *name;
	const uint32_t *allowed; /* [from]: STATE_BIT() of each state that may follow */
};

/*
 * Only one thread moves a state at a time (which, its owner says); any may read it. What was
 * written before the move is seen by whoever reads the new state.
 */
static inline bool states_move(const struct states *s, _Atomic int *state, int to)
{
	int from = atomic_load(state);

	if (!(s->allowed[from] & STATE_BIT(to))) {
		log_msg(KSMD_ERROR, "%s cannot go from %s to %s: a mistake of the daemon's", s->of,
			s->name[from], s->name[to]);
#ifdef KSM_SYSC_TEST
		abort();
#endif
		return false;
	}
	atomic_store(state, to);
	return true;
}

#endif

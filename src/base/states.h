/* SPDX-License-Identifier: MIT */
/*
 * states.h - states and the moves between them as data, checked by one setter.
 *
 * A move that is not in the table is a bug. A test build (-DKSM_SYSC_TEST) aborts. A service that
 * others rely on must go on: the setter logs the move, leaves the state as it is and returns false,
 * and the caller gives up the object that has the state.
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
	const char *of; /* the object that has the state, for the log */
	const char *const *name;
	const uint32_t *allowed; /* [from]: STATE_BIT() of each state that may follow */
};

/*
 * Move *state to `to`. True, or false when the table does not allow it. One thread at a time may
 * move a state, any may read it; a reader of the new state sees what the mover wrote before.
 */
static inline bool states_move(const struct states *s, _Atomic int *state, int to)
{
	int from = atomic_load(state);

	if (!(s->allowed[from] & STATE_BIT(to))) {
		log_msg(LOG_ERROR, "%s cannot go from %s to %s: a bug", s->of, s->name[from],
			s->name[to]);
#ifdef KSM_SYSC_TEST
		abort();
#endif
		return false;
	}
	atomic_store(state, to);
	return true;
}

#endif

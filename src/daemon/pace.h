/* SPDX-License-Identifier: MIT */
/* pace.h - when the mover's thread takes the next step of what moves frames. */
#ifndef KSMD_PACE_H
#define KSMD_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "engine/engine.h"

#define PACE_ANSWERS_MS 1 /* between two looks for clients' answers */
#define PACE_FREE_MS 2    /* the same, or for frames that a grace period frees, which are later */

/*
 * A step at `now_ms` returned `ret`. False: it was the last one, or there was none. Else the next
 * is due at once or in wait_ms, and *due_ms is not after that.
 */
static inline bool pace_next(enum engine_migrate ret, uint64_t now_ms, unsigned int wait_ms,
			     uint64_t *due_ms)
{
	if (ret != ENGINE_MIGRATE_MORE && ret != ENGINE_MIGRATE_WAIT)
		return false;
	*due_ms = u64_min(*due_ms, now_ms + (ret == ENGINE_MIGRATE_WAIT ? wait_ms : 0));
	return true;
}

#endif

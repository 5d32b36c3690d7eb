/* SPDX-License-Identifier: MIT */
/*
 * movable.c - see movable.h.
 *
 * A duty that is not met could free a frame under a mapping. Stopping the daemon is harmless to its
 * clients, so it stops.
 */
#include "engine/movable.h"

#include <assert.h>

bool movable_isolate(const struct movable_ops *ops, void *owner, uint32_t n)
{
	struct movable before = ops->state(owner, n), now;
	bool ok = ops->isolate(owner, n);

	now = ops->state(owner, n);
	assert(!ok || (before.movable && !before.isolated && now.movable && now.isolated));
	assert(ok || (now.movable == before.movable && now.isolated == before.isolated));
	(void)before;
	(void)now;
	return ok;
}

void movable_putback(const struct movable_ops *ops, void *owner, uint32_t n)
{
	struct movable before = ops->state(owner, n);

	assert(before.movable && before.isolated);
	(void)before;
	ops->putback(owner, n);
	assert(!ops->state(owner, n).isolated);
}

void movable_release(const struct movable_ops *ops, void *owner, uint32_t n)
{
	struct movable now = ops->state(owner, n);

	assert(!now.movable && !now.isolated);
	(void)now;
}

/* SPDX-License-Identifier: MIT */
/* as_unseen.h - ranges of which the kernel could not be asked what they are (AS_UNSEEN). */
#ifndef KSM_AS_UNSEEN_H
#define KSM_AS_UNSEEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "client/as.h"
#include "client/maps.h"

/* May this mapping be offered, although it was not made through the library? */
bool as_may_learn(const struct maps_entry *e) NEEDS(as.lock);
/* Is all of it known and seen? */
bool as_has_seen(struct span s) NEEDS(as.lock);
/* Take in what is not known of it, unseen. Returns 0 or -ENOMEM. */
int as_unseen_fill(struct span s) NEEDS(as.lock);
/* The kernel says now what stands in `part`: e. Returns 0, or -ENOMEM: some of it stays unseen. */
int as_unseen_see(struct span part, const struct maps_entry *e) NEEDS(as.lock);
/* Have the agent ask, by its descriptor of /proc/self/maps. Context: the agent; lock not held. */
void as_unseen_ask(int maps_fd, struct span s);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * headroom.h - how much memory this process may take without being killed for it.
 *
 * A page on a frame is charged to the daemon; given up, it is charged to the memory cgroup of its
 * process. A process that lives below its merged size is killed when all is given up at once. What
 * the program asks for is done all the same; the agent gives up of its own accord only what the
 * limits leave room for.
 */
#ifndef KSM_HEADROOM_H
#define KSM_HEADROOM_H

#include <stdbool.h>
#include <stdint.h>

/* All zero at first. For one piece of work. */
struct headroom {
	uint64_t credit; /* bytes that may be taken before the limits are looked at again */
};

/*
 * Look at the limits: how much may be taken now? False: nothing. What cannot be found out limits
 * nothing. Takes up to a millisecond. Context: the agent, without a lock.
 */
bool headroom_look(struct headroom *h);
/* Take up to `bytes` of the credit, in whole pages. Returns how many bytes; 0: look again. */
uint64_t headroom_take(struct headroom *h, uint64_t bytes);

#endif

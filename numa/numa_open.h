/* SPDX-License-Identifier: MIT */
/* numa_open.h - makes the topology that the command line names. */
#ifndef KSM_NUMA_OPEN_H
#define KSM_NUMA_OPEN_H

#include "numa/numa_topology.h"

/*
 * spec is one of
 *
 *	auto (or NULL)		the machine's nodes; one where it has no NUMA support
 *	emulated:N[,ROW...][,moves]
 *				N pretended ones, 1..NUMA_MAX_NODES
 *
 * A ROW is the distances from one node to each, with colons between them, and there is one for each
 * node: emulated:2,10:21,21:10. "moves": the daemon is taken to have the right to move frames,
 * which are then taken to lie where they were moved to; without it, it is refused.
 *
 * Returns the topology, which the caller frees with numa_topology_close(), or NULL with errno
 * ENOMEM, or EINVAL and the reason in why[size].
 */
struct numa_topology *numa_topology_open(const char *spec, char *why, size_t size);

#endif

/* SPDX-License-Identifier: MIT */
/* numa_open.h - the topology that the command line names. */
#ifndef KSM_NUMA_OPEN_H
#define KSM_NUMA_OPEN_H

#include "numa/numa_topology.h"

/*
 * spec: "auto" (or NULL) or "emulated:N", N in 1..64. Returns the topology, or NULL with errno
 * EINVAL (bad spec) or ENOMEM. On a machine without NUMA support, auto is one node. The caller ends
 * it with numa_topology_close().
 */
struct numa_topology *numa_topology_open(const char *spec);

#endif

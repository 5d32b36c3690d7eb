/* SPDX-License-Identifier: MIT */
/* numa_open.h - makes the topology that the command line names. */
#ifndef KSM_NUMA_OPEN_H
#define KSM_NUMA_OPEN_H

#include "numa/numa_topology.h"

/*
 * spec: "auto" (or NULL) or "emulated:N", N in 1..NUMA_MAX_NODES. On a machine without NUMA support
 * auto is one node. Returns the topology, which the caller frees with numa_topology_close(), or
 * NULL with errno EINVAL (bad spec) or ENOMEM.
 */
struct numa_topology *numa_topology_open(const char *spec);

#endif

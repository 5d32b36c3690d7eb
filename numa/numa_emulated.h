/* SPDX-License-Identifier: MIT */
/* numa_emulated.h - N nodes on any machine, for tests and studies of policies. */
#ifndef KSM_NUMA_EMULATED_H
#define KSM_NUMA_EMULATED_H

#include "numa/numa_topology.h"

#define NUMA_EMULATED_FAR 20 /* between any two nodes, unless told otherwise */

/*
 * nr_nodes: 1..NUMA_MAX_NODES; every two of them NUMA_EMULATED_FAR apart. Returns NULL with errno
 * ENOMEM when memory is short.
 */
struct numa_topology *numa_emulated_new(int nr_nodes);

#endif

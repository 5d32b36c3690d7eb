/* SPDX-License-Identifier: MIT */
/* numa_emulated.h - N nodes on any machine, for tests and studies of policies. */
#ifndef KSM_NUMA_EMULATED_H
#define KSM_NUMA_EMULATED_H

#include "numa/numa_topology.h"

/* nr_nodes: 1..NUMA_MAX_NODES. Returns NULL with errno ENOMEM when memory is short. */
struct numa_topology *numa_emulated_new(int nr_nodes);

#endif

/* SPDX-License-Identifier: MIT */
/* numa_emulated.h - nodes that follow from addresses. */
#ifndef KSM_NUMA_EMULATED_H
#define KSM_NUMA_EMULATED_H

#include "numa/numa_topology.h"

/* nr_nodes: 1..64. NULL with errno ENOMEM. */
struct numa_topology *numa_emulated_new(int nr_nodes);

#endif

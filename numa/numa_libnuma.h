/* SPDX-License-Identifier: MIT */
/* numa_libnuma.h - the machine's own nodes. */
#ifndef KSM_NUMA_LIBNUMA_H
#define KSM_NUMA_LIBNUMA_H

#include "numa/numa_topology.h"

/* One node where the kernel has no NUMA support. NULL with errno ENOMEM when memory is short. */
struct numa_topology *numa_libnuma_new(void);

#endif

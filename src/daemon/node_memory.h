/* SPDX-License-Identifier: MIT */
/*
 * node_memory.h - memory for the engines' records, on chosen NUMA nodes.
 *
 * A scan thread stays on the CPUs of its node (scan_place.h), and walks the trees of that node for
 * each page that it reads: a dozen steps, each a miss of the caches. malloc() gives memory where
 * the thread runs that touches it first, and gives it again to whoever asks next. So each node has
 * slices of memory that the kernel is told to have there. A slice is cut into chunks of one size,
 * and goes back to the kernel with its last chunk; of a chunk that is given back only the ends may
 * stay resident.
 *
 * All engines share it. A node's slices that are not full cost up to 2 MiB of addresses for each
 * size, and memory only where they are used.
 */
#ifndef KSMD_NODE_MEMORY_H
#define KSMD_NODE_MEMORY_H

#include "base/slab.h"
#include "numa/numa_topology.h"

struct node_memory;

/*
 * NULL with errno 0 on a machine where nothing can be placed, because it has one node or its nodes
 * are pretended; NULL with errno ENOMEM. The topology outlives it.
 */
struct node_memory *node_memory_new(struct numa_topology *t);
/* Everything has been put back. NULL is accepted. */
void node_memory_free(struct node_memory *m);
/*
 * For slabs; places are nids. NULL for NULL. Any thread, with the lock of an engine held or not. A
 * node that has no memory gets it from where the kernel has it next.
 */
const struct slab_memory *node_memory_slab(const struct node_memory *m);

#endif

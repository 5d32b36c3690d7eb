/* SPDX-License-Identifier: MIT */
/* nodes.h - the guest's NUMA nodes: where a puppet runs, where its pages lie, and moving these. */
#ifndef KSM_TEST_NODES_H
#define KSM_TEST_NODES_H

#include <stdbool.h>

#include "tests/lib/puppet.h"

#define MAX_NODES 8

/* Nodes of the machine, by the kernel's numbers, which have no holes in a guest that just began. */
int nodes_nr(void);
bool node_has_cpus(int node);
bool node_has_memory(int node);
/* A number of /sys/devices/system/node/nodeN/meminfo, in KiB ("MemFree"). */
long node_meminfo(int node, const char *key);

/*
 * Takes the node's memory ("1x+256") into use or out of it. False: some is still in the other
 * state, as its pages could not be moved away; again.
 */
bool node_use_memory(int node, bool on);
/* The same with a CPU. It must not be the last one, nor CPU 0. */
void cpu_use(int cpu, bool on);
/* The first CPU of the node, -1: it has none. */
int node_first_cpu(int node);

/* ---- functions to call in a puppet; negative results are errnos ---- */

long fn_run_on(const long a[6]);    /* (node): on its CPUs from now on */
long fn_policy(const long a[6]);    /* (mode, node): set_mempolicy */
long fn_mbind(const long a[6]);     /* (addr, pages, mode, node, flags), past the library */
long fn_fill_node(const long a[6]); /* (node): takes memory until that is full; pages taken */
long fn_policy_at(const long a[6]); /* (addr): mode of the mapping's policy there */
/* (pages, content, step, node): maps, fills on that node, without a policy, and offers; address */
long fn_offer_on(const long a[6]);
long fn_where(const long a[6]); /* (addr, pages, node): pages that lie there */
/* (addr, pages, node, flags of move_pages): pages that the kernel has moved, or that lay there */
long fn_move(const long a[6]);

#endif

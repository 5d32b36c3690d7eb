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

/* ---- functions to call in a puppet; negative results are errnos ---- */

long fn_run_on(const long a[6]);    /* (node): on its CPUs from now on */
long fn_policy(const long a[6]);    /* (mode, node): set_mempolicy */
long fn_mbind(const long a[6]);     /* (addr, pages, mode, node, flags), past the library */
long fn_fill_node(const long a[6]); /* (node): takes memory until that is full; pages taken */
long fn_policy_at(const long a[6]); /* (addr): mode of the mapping's policy there */
/* (pages, content, step, node): maps, fills on that node, without a policy, and offers; address */
long fn_offer_on(const long a[6]);
long fn_where(const long a[6]); /* (addr, pages, node): pages that lie there */
/* (addr, pages, node, flags of move_pages): pages that lie there afterwards */
long fn_move(const long a[6]);

#endif

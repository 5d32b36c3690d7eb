/* SPDX-License-Identifier: MIT */
/* scene.h - what the guest's suites have in common. */
#ifndef KSM_TEST_SCENE_H
#define KSM_TEST_SCENE_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/harness.h"
#include "tests/numa-vm/nodes.h"

enum { PAGES = 60 };

/* A daemon with merge_across_nodes `across` that makes no pauses. */
struct daemon *start(int across);
/* A puppet that runs on the node's CPUs. */
struct puppet *puppet_on(int node);
/* In the end there are so many, and nothing is under way. */
void expect_counts(struct daemon *d, uint64_t shared, uint64_t sharing);
/* All of these pages lie on that node, as move_pages(2) says; are as fn_fill() left them. */
void expect_on(struct puppet *p, long addr, int pages, int node);
void expect_whole(struct puppet *p, long addr, int pages, long content);

/* migration.c: adds the tests of a suite. False: it knows none of that name. */
bool migration_add(TCase *tc, const char *name);

#endif

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

/* node/N/NAME: its path; its value. */
void path_of(char *buf, size_t size, int node, const char *name);
uint64_t node_u64(struct daemon *d, int node, const char *name);
/* Does the path have this value? */
bool says(struct daemon *d, const char *path, const char *text);
/* What lies on a node goes to another one, to the end. */
void migrate(struct daemon *d, int from, int to);

/* The kernel moves these pages there, as move_pages(2) with these flags. It refuses busy ones. */
void move_all(struct puppet *p, long addr, int node, int flags);

/* Pairs of clients with the same contents, two on each node of `nodes`. */
struct pairs {
	int nr;
	struct puppet *p[8];
	long a[8];
};
/* Makes them, merged: in one set, or (not `across`) one for each node. */
struct pairs pairs_on(struct daemon *d, int nodes, int across);
/* Ends them, and the daemon. */
void end(struct pairs *s, struct daemon *d);
/* Their pages lie there, with what was in them. */
void expect_all_on(struct pairs *s, int node);

/* Writes to a file of the kernel's, which must take it. */
void write_to(const char *path, const char *text);

/* migration.c: adds the tests of a suite. False: it knows none of that name. */
bool migration_add(TCase *tc, const char *name);
/* coming.c: the same. */
bool coming_add(TCase *tc, const char *name);

#endif

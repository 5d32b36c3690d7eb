/* SPDX-License-Identifier: MIT */
/* memory.h - what memory merging gives back, and what it takes. */
#ifndef KSM_BENCH_MEMORY_H
#define KSM_BENCH_MEMORY_H

#include <stdint.h>

#include "fleet.h"

struct run;

struct memory {
	struct fleet_memory fleet;
	double used;   /* on the machine, bytes */
	uint64_t anon; /* side_metadata_anon() */
};
int memory_look(struct run *r, struct memory *m);
/* What was saved since `before`, into the run's round. */
int memory_saved(struct run *r, const struct memory *before);
/* What a page that is tracked and not merged costs, where none is merged. */
int memory_of_page(struct run *r, const struct memory *before);

#endif

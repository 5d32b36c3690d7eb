/* SPDX-License-Identifier: MIT */
/* costs.h - what this machine asks for each step of a merge. */
#ifndef KSM_BENCH_COSTS_H
#define KSM_BENCH_COSTS_H

/* Print a Markdown table. Returns 0 or a negative errno, which has been said. */
int costs_print(void);

#endif

/* SPDX-License-Identifier: MIT */
/* drain.h - how long it takes to empty a node while clients run. */
#ifndef KSM_BENCH_DRAIN_H
#define KSM_BENCH_DRAIN_H

/* Print a Markdown table. Returns 0 or -errno, which has been said. */
int drain_print(void);

#endif

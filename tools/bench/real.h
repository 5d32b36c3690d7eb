/* SPDX-License-Identifier: MIT */
/* real.h - real programs as a workload. */
#ifndef KSM_BENCH_REAL_H
#define KSM_BENCH_REAL_H

struct fleet;
struct side;

/* Start cfg->processes of them, and give each the same `size_mib` MiB of data. */
int real_start(struct fleet *f, struct side *s, unsigned int size_mib);
/* Ask each for all of its data. Returns -EILSEQ when one answers something else. */
int real_verify(struct fleet *f, unsigned int size_mib);

#endif

/* SPDX-License-Identifier: MIT */
/* real.h - real programs as a workload. */
#ifndef KSM_BENCH_REAL_H
#define KSM_BENCH_REAL_H

struct fleet;
struct fleet_tenant;
struct side;

/* Start a program as an operator of that side would. Returns 0 or -errno. */
int real_program(struct side *s, const char *const argv[], struct fleet_tenant *w);
/* Wait until that side merges all cfg->processes of them. */
int real_wait(struct fleet *f, struct side *s);

/* Start cfg->processes of them, and give each the same `size_mib` MiB of data. */
int real_start(struct fleet *f, struct side *s, unsigned int size_mib);
/* Ask each for all of its data. Returns -EILSEQ when one answers something else. */
int real_verify(struct fleet *f, unsigned int size_mib);

#endif

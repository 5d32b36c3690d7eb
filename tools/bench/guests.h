/* SPDX-License-Identifier: MIT */
/* guests.h - guests of QEMU as a workload. */
#ifndef KSM_BENCH_GUESTS_H
#define KSM_BENCH_GUESTS_H

struct fleet;
struct side;

/* Start cfg->processes guests, each with the same `size_mib` MiB of data in its memory. */
int guests_start(struct fleet *f, struct side *s, unsigned int size_mib);
/* Save the data of each from its memory. Returns -EILSEQ when one has other bytes. */
int guests_verify(struct fleet *f, unsigned int size_mib);

#endif

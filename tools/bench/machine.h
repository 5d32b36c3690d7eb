/* SPDX-License-Identifier: MIT */
/* machine.h - the machine that is measured on. */
#ifndef KSM_BENCH_MACHINE_H
#define KSM_BENCH_MACHINE_H

#include <stdint.h>

struct machine {
	char cpu[128], kernel[128];
	int cpus;
	uint64_t memory_mib;
};
void machine_read(struct machine *m);

/* Seconds that all CPUs together were busy, or taken by the machine's host. NAN: not known. */
double machine_busy_s(void);
/* Memory that is free or holds caches, bytes. */
uint64_t machine_available(void);
/* Memory in use, caches aside, bytes. NAN: not known. */
double machine_used(void);

#endif

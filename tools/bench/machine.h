/* SPDX-License-Identifier: MIT */
/* machine.h - what the whole machine does beside the measurement. */
#ifndef KSM_BENCH_MACHINE_H
#define KSM_BENCH_MACHINE_H

/* Seconds that all CPUs together were busy, or taken by the machine's host. NAN: not known. */
double machine_busy_s(void);
/* Memory in use, caches aside, bytes. NAN: not known. */
double machine_used(void);

#endif

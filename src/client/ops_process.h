/* SPDX-License-Identifier: MIT */
/* ops_process.h - the library in a process: first use, forks, the agent's start. */
#ifndef KSM_OPS_PROCESS_H
#define KSM_OPS_PROCESS_H

/* First call in the process: tables, fork handlers. Idempotent, thread-safe. Returns 0 or -ENOMEM. */
int ksmc_init(void);

#endif
